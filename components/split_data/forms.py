"""Every accepted form of a chat record, made into messages here and nowhere later."""

from __future__ import annotations

from typing import Any, get_args

from components.contracts import Message

ROLES: tuple[str, ...] = get_args(Message.model_fields["role"].annotation)
SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


class RowProblem(Exception):
    """Why one record cannot be used; the words go into the report."""


def messages_of(record: Any) -> list[Message]:
    """The messages of one record in the ``messages`` or the ShareGPT ``conversations`` form.

    Raises:
        RowProblem: the record is not a conversation that ends with the assistant.
    """
    if not isinstance(record, dict):
        raise RowProblem(f"a JSON {type(record).__name__}, not an object")
    if "messages" in record:
        turns = [
            _message(turn, "role", "content", {role: role for role in ROLES}) for turn in _turns(record, "messages")
        ]
    elif "conversations" in record:
        turns = [_message(turn, "from", "value", SHAREGPT_ROLES) for turn in _turns(record, "conversations")]
    else:
        raise RowProblem(
            f"has no 'messages' or 'conversations' key (its keys: {', '.join(map(str, record)) or 'none'})"
        )
    first = next((turn for turn in turns if turn.role != "system"), turns[0])
    if first.role != "user":
        raise RowProblem(f"begins with a turn of the {first.role}, not the user")
    if turns[-1].role != "assistant":
        raise RowProblem(f"ends with a turn of the {turns[-1].role}, not the assistant")
    return turns


def _turns(record: dict[str, Any], key: str) -> list[Any]:
    turns = record[key]
    if not isinstance(turns, list) or not turns:
        raise RowProblem(f"'{key}' is not a list with at least one turn")
    return turns


def _message(turn: Any, role_key: str, content_key: str, roles: dict[str, str]) -> Message:
    if not isinstance(turn, dict) or role_key not in turn or content_key not in turn:
        raise RowProblem(f"a turn without '{role_key}' and '{content_key}'")
    role, content = turn[role_key], turn[content_key]
    if not isinstance(role, str) or role not in roles:
        raise RowProblem(f"unknown role {role!r} (known: {', '.join(roles)})")
    if not isinstance(content, str) or not content.strip():
        raise RowProblem(f"the {role} turn has no text")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise RowProblem(f"the {role} turn holds half of a character (at {error.start})") from error
    return Message.model_validate({"role": roles[role], "content": content})
