"""Convert one turn of a record to a message: its role, its text, and the other keys."""

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
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
# OpenAI's key, and those of axolotl and ms-swift for the same.
WEIGHT_KEYS = ("weight", "train", "training", "loss")
# Keys of a turn or of a record whose values are not text.
NOT_TEXT_KEYS = ("images", "image", "audio", "audios", "videos", "video")
# Keys of a turn that would be lost; a row with one of them is dropped, with the reason.
REFUSED_KEYS = {
    "function_call": "has a function_call, OpenAI's former format; write it as tool_calls",
    **{key: f"has '{key}', and only text is trained on" for key in NOT_TEXT_KEYS},
    "refusal": "is a refusal, which no chat template writes; write it as content",
}
_TYPE_NAMES = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class RowError(Exception):
    """Why one record cannot be used; the message goes into the report."""


def type_name(value: Any) -> str:
    """The name of a JSON value's type."""
    return _TYPE_NAMES.get(type(value), f"a {type(value).__name__}")


def message_of(turn: Any, name: str | None = None) -> Message | None:
    """One turn with ``role`` and ``content``, or with ShareGPT's ``from`` and ``value``; None for an empty system turn.

    ``name`` is the name of the turn in an error, such as "user turn".

    Raises:
        RowError: it is not a turn, or has a key that would be lost.
    """
    if not isinstance(turn, dict):
        raise RowError(f"a turn that is {type_name(turn)}, not an object")
    role_key = "from" if "from" in turn and "role" not in turn else "role"
    content_key = "value" if "value" in turn and "content" not in turn else "content"
    calls = _tool_calls(turn)
    if role_key not in turn or (content_key not in turn and calls is None):
        raise RowError("a turn without 'role' and 'content', or 'from' and 'value'")
    role, content = _role(turn[role_key]), turn.get(content_key)
    name = name or f"{turn[role_key]} turn"
    for key, reason in REFUSED_KEYS.items():
        if turn.get(key):
            raise RowError(f"the {name} {reason}")
    if role == "system" and content in (None, ""):
        return None
    text = "" if content in (None, "") and (calls or role == "tool") else _text(content, name)
    of_assistant = {"reasoning_content": _reasoning(turn, name), "tool_calls": calls, "weight": _weight(turn, name)}
    of_tool = {key: _text_value(turn, key, name) for key in ("tool_call_id", "name")}
    beside = of_assistant if role == "assistant" else of_tool if role == "tool" else {}
    return Message.model_validate({"role": role, "content": text, **beside})


def tools_of(record: Any) -> list[dict[str, Any]] | None:
    """The functions that may be called in a record, in OpenAI's format; None where it names none.

    Raises:
        RowError: they are not in that format.
    """
    if not isinstance(record, dict):
        return None
    if record.get("functions"):
        raise RowError("has 'functions', OpenAI's former format; write them as tools")
    tools = _json_list(record.get("tools"), "tools")
    return [_function(tool, "tools", "parameters") for tool in tools] or None


def _role(role: Any) -> str:
    if not isinstance(role, str) or role not in ROLES:
        raise RowError(f"unknown role {role!r} (known: {', '.join(ROLES)})")
    return ROLES[role]


def _text(content: Any, name: str) -> str:
    if isinstance(content, list):
        content = "\n".join(_part(part, name) for part in content)
    if content is not None and not isinstance(content, str):
        raise RowError(f"the {name} is {type_name(content)}, not text")
    if content is None or not content.strip():
        raise RowError(f"the {name} has no text")
    return _require_whole_characters(content, name)


def _part(part: Any, name: str) -> str:
    """The text of one part of a content that is a list."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else type_name(part)
    if kind not in TEXT_PARTS or not isinstance(part.get("text"), str):
        raise RowError(f"the {name} has a part of the type {kind!r}, and only text is trained on")
    return str(part["text"])


def _require_whole_characters(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(f"the {name} holds a lone surrogate (at {error.start})") from error
    return text


def _reasoning(turn: dict[str, Any], name: str) -> str | None:
    text = next((turn[key] for key in REASONING_KEYS if turn.get(key)), None)
    if text is None:
        return None
    if not isinstance(text, str):
        raise RowError(f"the reasoning of the {name} is {type_name(text)}, not text")
    return _require_whole_characters(text.strip(), name) or None


def _weight(turn: dict[str, Any], name: str) -> int | None:
    key = next((key for key in WEIGHT_KEYS if turn.get(key) is not None), None)
    if key is None:
        return None
    if turn[key] not in (0, 1) or not isinstance(turn[key], int | float):
        raise RowError(f"the {name} has the {key} {turn[key]!r}; it is 0 (context alone) or 1 (trained on)")
    return int(turn[key])


def _text_value(turn: dict[str, Any], key: str, name: str) -> str | None:
    value = turn.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RowError(f"the {key} of the {name} is {type_name(value)}, not text")
    return _require_whole_characters(value, name)


def _tool_calls(turn: dict[str, Any]) -> list[dict[str, Any]] | None:
    calls = _json_list(turn.get("tool_calls"), "tool_calls")
    return [_function(call, "tool_calls", "arguments") for call in calls] or None


def _function(entry: Any, key: str, object_key: str) -> dict[str, Any]:
    """A tool or a tool call in OpenAI's format; ``entry`` may also be the content of its ``function`` alone.

    ``object_key`` (parameters, or arguments) is an object, or JSON text of one.
    """
    function = entry.get("function", entry) if isinstance(entry, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowError(f"'{key}' has an entry without the name of a function")
    inner = function.get(object_key)
    if isinstance(inner, str):
        inner = parse_json(inner, f"the {object_key} of {function['name']!r}")
    if inner is not None and not isinstance(inner, dict):
        raise RowError(f"the {object_key} of {function['name']!r} are {type_name(inner)}, not an object")
    rest = {} if function is entry else {name: value for name, value in entry.items() if name != "function"}
    whole = {**rest, "type": "function", "function": {**function, object_key: inner or {}}}
    return _require_json(whole, key)


def _json_list(value: Any, key: str) -> list[Any]:
    if isinstance(value, str) and value.strip():  # a column of text
        value = parse_json(value, f"'{key}'")
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if not isinstance(value, list):
        raise RowError(f"'{key}' is {type_name(value)}, not a list")
    return value


def parse_json(text: str, name: str) -> Any:
    """The value of JSON text; ``name`` is its name in an error.

    Raises:
        RowError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{name} is text that is not JSON ({error})") from error


def _require_json(document: dict[str, Any], key: str) -> dict[str, Any]:
    """``document``, where it can be written as JSON."""
    try:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise RowError(f"'{key}' holds a lone surrogate") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError(f"'{key}' cannot be written as JSON ({error})") from error
    return document
