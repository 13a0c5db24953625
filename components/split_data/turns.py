"""One turn of a record made into a message: its role, its text, and what stands beside that."""

from __future__ import annotations

import json
from typing import Any

from components.artifacts.contracts import Message

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant",
    "tool": "tool",
}  # fmt: skip
TEXT_PARTS = ("text", "input_text", "output_text")
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
# OpenAI's key, and what axolotl and ms-swift call the same.
WEIGHTS = ("weight", "train", "training", "loss")
# Beside text, in a turn or in a record.
NOT_TEXT = ("images", "image", "audio", "audios", "videos", "video")
# What a turn may hold that is lost without a word unless the row is dropped.
NOT_TAKEN = {
    "function_call": "has a function_call, OpenAI's former way; write it as tool_calls",
    **{key: f"has '{key}', and only text is trained on" for key in NOT_TEXT},
    "refusal": "is a refusal, which no chat template writes; write it as content",
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


def what_it_is(value: Any) -> str:
    """What a JSON value is, in words."""
    return _JSON_NAMES.get(type(value), "no object")


def message_of(turn: Any, place: str | None = None) -> Message | None:
    """One turn with ``role`` and ``content``, or with ShareGPT's ``from`` and ``value``; None for an empty system turn.

    ``place`` is what an error calls the turn.

    Raises:
        RowProblem: it is no turn, or holds what would be lost.
    """
    if not isinstance(turn, dict):
        raise RowProblem(f"a turn that is {what_it_is(turn)}, not an object")
    role_key = "from" if "from" in turn and "role" not in turn else "role"
    content_key = "value" if "value" in turn and "content" not in turn else "content"
    calls = _tool_calls(turn)
    if role_key not in turn or (content_key not in turn and calls is None):
        raise RowProblem("a turn without 'role' and 'content', or 'from' and 'value'")
    role, content = _role(turn[role_key]), turn.get(content_key)
    place = place or f"{turn[role_key]} turn"
    for key, reason in NOT_TAKEN.items():
        if turn.get(key):
            raise RowProblem(f"the {place} {reason}")
    if role == "system" and content in (None, ""):
        return None
    text = "" if content in (None, "") and (calls or role == "tool") else _text(content, place)
    of_assistant = {"reasoning_content": _thoughts(turn, place), "tool_calls": calls, "weight": _weight(turn, place)}
    of_tool = {key: _name(turn, key, place) for key in ("tool_call_id", "name")}
    beside = of_assistant if role == "assistant" else of_tool if role == "tool" else {}
    return Message.model_validate({"role": role, "content": text, **beside})


def tools_of(record: Any) -> list[dict[str, Any]] | None:
    """The functions that a record says may be called, in OpenAI's form; None where it names none.

    Raises:
        RowProblem: they are not of that form.
    """
    if not isinstance(record, dict):
        return None
    if record.get("functions"):
        raise RowProblem("has 'functions', OpenAI's former way; write them as tools")
    tools = _json_list(record.get("tools"), "tools")
    return [_function(tool, "tools", "parameters") for tool in tools] or None


def _role(role: Any) -> str:
    if not isinstance(role, str) or role not in ROLES:
        raise RowProblem(f"unknown role {role!r} (known: {', '.join(ROLES)})")
    return ROLES[role]


def _text(content: Any, place: str) -> str:
    if isinstance(content, list):
        content = "\n".join(_part(part, place) for part in content)
    if content is not None and not isinstance(content, str):
        raise RowProblem(f"the {place} is {what_it_is(content)}, not text")
    if content is None or not content.strip():
        raise RowProblem(f"the {place} has no text")
    return _whole_characters(content, place)


def _part(part: Any, place: str) -> str:
    """The text of one of the parts that a content can be a list of."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else what_it_is(part)
    if kind not in TEXT_PARTS or not isinstance(part.get("text"), str):
        raise RowProblem(f"the {place} has a part of the type {kind!r}, and only text is trained on")
    return str(part["text"])


def _whole_characters(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowProblem(f"the {place} holds half of a character (at {error.start})") from error
    return text


def _thoughts(turn: dict[str, Any], place: str) -> str | None:
    said = next((turn[key] for key in THOUGHTS if turn.get(key)), None)
    if said is None:
        return None
    if not isinstance(said, str):
        raise RowProblem(f"the reasoning of the {place} is {what_it_is(said)}, not text")
    return _whole_characters(said.strip(), place) or None


def _weight(turn: dict[str, Any], place: str) -> int | None:
    key = next((key for key in WEIGHTS if turn.get(key) is not None), None)
    if key is None:
        return None
    if turn[key] not in (0, 1) or not isinstance(turn[key], int | float):
        raise RowProblem(f"the {place} has the {key} {turn[key]!r}; it is 0 (context alone) or 1 (trained on)")
    return int(turn[key])


def _name(turn: dict[str, Any], key: str, place: str) -> str | None:
    value = turn.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RowProblem(f"the {key} of the {place} is {what_it_is(value)}, not text")
    return _whole_characters(value, place)


def _tool_calls(turn: dict[str, Any]) -> list[dict[str, Any]] | None:
    calls = _json_list(turn.get("tool_calls"), "tool_calls")
    return [_function(call, "tool_calls", "arguments") for call in calls] or None


def _function(given: Any, key: str, holds: str) -> dict[str, Any]:
    """A tool, or a call of one: an object with ``function``, or what would stand there; its ``holds`` is an object."""
    function = given.get("function", given) if isinstance(given, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowProblem(f"'{key}' has an entry without the name of a function")
    inner = function.get(holds)
    if isinstance(inner, str):
        inner = _json(inner, f"the {holds} of {function['name']!r}")
    if inner is not None and not isinstance(inner, dict):
        raise RowProblem(f"the {holds} of {function['name']!r} are {what_it_is(inner)}, not an object")
    rest = {} if function is given else {name: value for name, value in given.items() if name != "function"}
    whole = {**rest, "type": "function", "function": {**function, holds: inner or {}}}
    return _checked(whole, key)


def _json_list(given: Any, key: str) -> list[Any]:
    if isinstance(given, str) and given.strip():  # a column of text
        given = _json(given, f"'{key}'")
    if given in (None, "") or (isinstance(given, str) and not given.strip()):
        return []
    if not isinstance(given, list):
        raise RowProblem(f"'{key}' is {what_it_is(given)}, not a list")
    return given


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowProblem(f"{what} is text that is not JSON ({error})") from error


def _checked(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The same, once it is known that a file can hold it."""
    try:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise RowProblem(f"'{key}' holds half of a character") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise RowProblem(f"'{key}' cannot be written as JSON ({error})") from error
    return document
