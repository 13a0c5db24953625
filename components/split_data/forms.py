"""Every accepted form of a chat record, made into messages here and nowhere later."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from components.artifacts.contracts import Message
from components.split_data.config import Form
from components.split_data.turns import NOT_TEXT, RowProblem, message_of, what_it_is

# What a record of each form has. The first that fits is taken.
KEYS: dict[Form, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
}
# Each answer's prompt is rendered, and with so many that takes long.
MAX_ANSWERS = 256


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
        raise RowProblem(f"is {what_it_is(record)}, not an object")
    missing = [key for key in KEYS[form] if key not in record]
    if missing:
        raise RowProblem(_not_in_form(record, form, missing))
    for key in NOT_TEXT:
        if record.get(key):
            raise RowProblem(f"has '{key}', and only text is trained on")
    turns = _READERS[form](record)
    first = next((turn for turn in turns if turn.role != "system"), None)
    if first is None:
        raise RowProblem("has no turn of the user")
    if first.role != "user":
        raise RowProblem(f"begins with a turn of the {first.role}, not the user")
    if turns[-1].role != "assistant":
        raise RowProblem(f"ends with a turn of the {turns[-1].role}, not the assistant")
    if (n := sum(turn.role == "assistant" for turn in turns)) > MAX_ANSWERS:
        raise RowProblem(f"has {n} answers; a row may have {MAX_ANSWERS}: cut it into conversations")
    if all(turn.weight == 0 for turn in turns if turn.role == "assistant"):
        raise RowProblem("every answer has weight 0: there is nothing to train on")
    return turns


def _not_in_form(record: dict[str, Any], form: Form, missing: list[str]) -> str:
    other = form_of(record)
    if other is not None:
        return f"is in the form {other}, unlike its neighbours in the form {form}; give it a source of its own"
    wanted = " and ".join(f"'{key}'" for key in missing)
    return f"has no {wanted} key (its keys: {', '.join(map(str, record)) or 'none'})"


def _chat(record: dict[str, Any]) -> list[Message]:
    return _with_system(record, _messages(_turns(record, "messages")))


def _sharegpt(record: dict[str, Any]) -> list[Message]:
    return _with_system(record, _messages(_turns(record, "conversations")))


def _alpaca(record: dict[str, Any]) -> list[Message]:
    question = record["instruction"]
    if record.get("input") not in (None, ""):
        question = f"{_text(question, 'instruction')}\n\n{_text(record['input'], 'input')}"
    pairs = [*_history(record), (question, record["output"])]
    turns = [turn for asked, answer in pairs for turn in _exchange(asked, answer, "instruction", "output")]
    return _with_system(record, turns)


def _history(record: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Earlier questions and answers, which some alpaca files hold as pairs."""
    history = record.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in history):
        raise RowProblem("'history' is not a list of pairs of question and answer")
    return [(asked, answer) for asked, answer in history]


def _prompt_completion(record: dict[str, Any]) -> list[Message]:
    """Two texts, or two lists of messages."""
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return _with_system(record, _messages([*prompt, *completion]))
    return _with_system(record, _exchange(prompt, completion, "prompt", "completion"))


_READERS: dict[Form, Callable[[dict[str, Any]], list[Message]]] = {
    "messages": _chat,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
}


def _exchange(asked: Any, answer: Any, asked_name: str, answer_name: str) -> list[Message]:
    return [
        Message(role="user", content=_text(asked, asked_name)),
        Message(role="assistant", content=_text(answer, answer_name)),
    ]


def _text(content: Any, place: str) -> str:
    message = message_of({"role": "user", "content": content}, place)
    assert message is not None  # only an empty system message is left out
    return message.content


def _with_system(record: dict[str, Any], turns: list[Message]) -> list[Message]:
    """The turns, behind the record's own ``system`` text where it has one."""
    said = record.get("system")
    if said in (None, ""):
        return turns
    system = message_of({"role": "system", "content": said}, "system")
    if system is None or (turns and turns[0] == system):
        return turns
    if turns and turns[0].role == "system":
        raise RowProblem("has a 'system' text and a system turn that says something else")
    return [system, *turns]


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


def _messages(turns: list[Any]) -> list[Message]:
    return [message for turn in turns if (message := message_of(turn)) is not None]
