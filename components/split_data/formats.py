"""Every accepted format of a chat record, converted to messages here and nowhere later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from components.artifacts.contracts import Message
from components.split_data.config import Format
from components.split_data.turns import NOT_TEXT_KEYS, RowError, message_of, parse_json, type_name

# The keys that a record of each format has; the first format that fits is taken.
KEYS: dict[Format, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
}
# The prompt of each answer is rendered: the time grows with the square of the answers.
MAX_ANSWERS = 256


def format_of(record: Any) -> Format | None:
    """The format that a record's keys show, or None."""
    if not isinstance(record, dict):
        return None
    return next((format for format, keys in KEYS.items() if all(key in record for key in keys)), None)


def most_common_format(records: Iterable[Any]) -> Format | None:
    """The format that most of ``records`` have, or None where none has one."""
    counts = Counter(format for record in records if (format := format_of(record)) is not None)
    return counts.most_common(1)[0][0] if counts else None


def messages_of(record: Any, format: Format) -> list[Message]:
    """The messages of one record in ``format``; an empty system message is left out.

    Raises:
        RowError: the record is not a conversation that begins with the user and ends with the assistant.
    """
    if not isinstance(record, dict):
        raise RowError(f"is {type_name(record)}, not an object")
    missing = [key for key in KEYS[format] if key not in record]
    if missing:
        raise RowError(_not_in_format(record, format, missing))
    for key in NOT_TEXT_KEYS:
        if record.get(key):
            raise RowError(f"has '{key}', and only text is trained on")
    turns = _READERS[format](record)
    first = next((turn for turn in turns if turn.role != "system"), None)
    if first is None:
        raise RowError("has no turn of the user")
    if first.role != "user":
        raise RowError(f"begins with a turn of the {first.role}, not the user")
    if turns[-1].role != "assistant":
        raise RowError(f"ends with a turn of the {turns[-1].role}, not the assistant")
    if (n := sum(turn.role == "assistant" for turn in turns)) > MAX_ANSWERS:
        raise RowError(f"has {n} answers; a row may have {MAX_ANSWERS}: cut it into conversations")
    if all(turn.weight == 0 for turn in turns if turn.role == "assistant"):
        raise RowError("every answer has weight 0: there is nothing to train on")
    return turns


def _not_in_format(record: dict[str, Any], format: Format, missing: list[str]) -> str:
    other = format_of(record)
    if other is not None:
        return f"is in the format {other}, unlike its neighbours in the format {format}; give it a source of its own"
    keys = " and ".join(f"'{key}'" for key in missing)
    return f"has no {keys} key (its keys: {', '.join(map(str, record)) or 'none'})"


def _chat(record: dict[str, Any]) -> list[Message]:
    return _with_system(record, _messages(_turns(record, "messages")))


def _sharegpt(record: dict[str, Any]) -> list[Message]:
    return _with_system(record, _messages(_turns(record, "conversations")))


def _alpaca(record: dict[str, Any]) -> list[Message]:
    question = record["instruction"]
    if record.get("input") not in (None, ""):
        question = f"{_text(question, 'instruction')}\n\n{_text(record['input'], 'input')}"
    pairs = [*_history(record), (question, record["output"])]
    turns = [turn for pair in pairs for turn in _exchange(*pair, "instruction", "output")]
    return _with_system(record, turns)


def _history(record: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Earlier pairs of question and answer, which some Alpaca files have."""
    history = record.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in history):
        raise RowError("'history' is not a list of pairs of question and answer")
    return [(question, answer) for question, answer in history]


def _prompt_completion(record: dict[str, Any]) -> list[Message]:
    """Two texts, or two lists of messages."""
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return _with_system(record, _messages([*prompt, *completion]))
    return _with_system(record, _exchange(prompt, completion, "prompt", "completion"))


_READERS: dict[Format, Callable[[dict[str, Any]], list[Message]]] = {
    "messages": _chat,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
}


def _exchange(question: Any, answer: Any, question_key: str, answer_key: str) -> list[Message]:
    return [
        Message(role="user", content=_text(question, question_key)),
        Message(role="assistant", content=_text(answer, answer_key)),
    ]


def _text(content: Any, key: str) -> str:
    message = message_of({"role": "user", "content": content}, key)
    assert message is not None  # only an empty system message is left out
    return message.content


def _with_system(record: dict[str, Any], turns: list[Message]) -> list[Message]:
    """The turns, preceded by the record's own ``system`` text where it has one."""
    text = record.get("system")
    if text in (None, ""):
        return turns
    system = message_of({"role": "system", "content": text}, "system")
    if system is None or (turns and turns[0] == system):
        return turns
    if turns and turns[0].role == "system":
        raise RowError("has a 'system' text and a system turn with another text")
    return [system, *turns]


def _turns(record: dict[str, Any], key: str) -> list[Any]:
    turns = record[key]
    if isinstance(turns, str):  # a cell of a CSV file
        turns = parse_json(turns, f"'{key}'")
    if not isinstance(turns, list) or not turns:
        raise RowError(f"'{key}' is not a list with at least one turn")
    return turns


def _messages(turns: list[Any]) -> list[Message]:
    return [message for turn in turns if (message := message_of(turn)) is not None]
