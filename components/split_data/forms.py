"""Every accepted form of a chat record, made into messages here and nowhere later."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, get_args

from components.contracts import Message
from components.split_data.config import Form

ROLES: tuple[str, ...] = get_args(Message.model_fields["role"].annotation)
SAME_ROLES = {role: role for role in ROLES}
SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
# What a record of each form has. The first that fits is taken.
KEYS: dict[Form, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
}


_JSON_NAMES = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


class RowProblem(Exception):
    """Why one record cannot be used; the words go into the report."""


def form_of(record: Any) -> Form | None:
    """The form that a record's keys show, or None."""
    if not isinstance(record, dict):
        return None
    return next((form for form, keys in KEYS.items() if all(key in record for key in keys)), None)


def usual_form(records: Iterable[Any]) -> Form | None:
    """The form that most of ``records`` have, or None where they have none."""
    seen = Counter(form for record in records if (form := form_of(record)) is not None)
    return seen.most_common(1)[0][0] if seen else None


def messages_of(record: Any, form: Form) -> list[Message]:
    """The messages of one record in ``form``; an empty system message is left out.

    Raises:
        RowProblem: the record is not a conversation that begins with the user and ends with the assistant.
    """
    if not isinstance(record, dict):
        raise RowProblem(f"is {_JSON_NAMES.get(type(record), 'no object')}, not an object")
    missing = [key for key in KEYS[form] if key not in record]
    if missing:
        raise RowProblem(_not_in_form(record, form, missing))
    turns = _READERS[form](record)
    first = next((turn for turn in turns if turn.role != "system"), None)
    if first is None:
        raise RowProblem("has no turn of the user")
    if first.role != "user":
        raise RowProblem(f"begins with a turn of the {first.role}, not the user")
    if turns[-1].role != "assistant":
        raise RowProblem(f"ends with a turn of the {turns[-1].role}, not the assistant")
    return turns


def _not_in_form(record: dict[str, Any], form: Form, missing: list[str]) -> str:
    other = form_of(record)
    if other is not None:
        return f"is in the form {other}, unlike its neighbours in the form {form}; give it a source of its own"
    wanted = " and ".join(f"'{key}'" for key in missing)
    return f"has no {wanted} key (its keys: {', '.join(map(str, record)) or 'none'})"


def _chat(record: dict[str, Any]) -> list[Message]:
    return _messages(_turns(record, "messages"), "role", "content", SAME_ROLES)


def _sharegpt(record: dict[str, Any]) -> list[Message]:
    return _messages(_turns(record, "conversations"), "from", "value", SHAREGPT_ROLES)


def _alpaca(record: dict[str, Any]) -> list[Message]:
    question = _text(record["instruction"], "instruction")
    if record.get("input") not in (None, ""):
        question += "\n\n" + _text(record["input"], "input")
    answer = _text(record["output"], "output")
    return [*_system(record), Message(role="user", content=question), Message(role="assistant", content=answer)]


def _prompt_completion(record: dict[str, Any]) -> list[Message]:
    """Two texts, or two lists of messages."""
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return _messages([*prompt, *completion], "role", "content", SAME_ROLES)
    texts = (_text(prompt, "prompt"), _text(completion, "completion"))
    return [*_system(record), Message(role="user", content=texts[0]), Message(role="assistant", content=texts[1])]


_READERS: dict[Form, Callable[[dict[str, Any]], list[Message]]] = {
    "messages": _chat,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
}


def _system(record: dict[str, Any]) -> list[Message]:
    said = record.get("system")
    return [] if said in (None, "") else [Message(role="system", content=_text(said, "system"))]


def _turns(record: dict[str, Any], key: str) -> list[Any]:
    turns = record[key]
    if isinstance(turns, str):  # a cell of a CSV file
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError) as error:
            raise RowProblem(f"'{key}' is text that is not JSON ({error})") from error
    if not isinstance(turns, list) or not turns:
        raise RowProblem(f"'{key}' is not a list with at least one turn")
    return turns


def _messages(turns: list[Any], role_key: str, content_key: str, roles: dict[str, str]) -> list[Message]:
    read = [_message(turn, role_key, content_key, roles) for turn in turns]
    return [message for message in read if message is not None]


def _message(turn: Any, role_key: str, content_key: str, roles: dict[str, str]) -> Message | None:
    if not isinstance(turn, dict) or role_key not in turn or content_key not in turn:
        raise RowProblem(f"a turn without '{role_key}' and '{content_key}'")
    role, content = turn[role_key], turn[content_key]
    if not isinstance(role, str) or role not in roles:
        raise RowProblem(f"unknown role {role!r} (known: {', '.join(roles)})")
    if roles[role] == "system" and content in (None, ""):
        return None
    return Message.model_validate({"role": roles[role], "content": _text(content, f"{role} turn")})


def _text(content: Any, place: str) -> str:
    if content is not None and not isinstance(content, str):
        raise RowProblem(f"the {place} is {_JSON_NAMES.get(type(content), 'something')}, not text")
    if content is None or not content.strip():
        raise RowProblem(f"the {place} has no text")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise RowProblem(f"the {place} holds half of a character (at {error.start})") from error
    return content
