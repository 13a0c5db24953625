"""Messages and tools of OpenAI's wire. What was sent by any server before comes back in them: it is taken as it is."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NoReturn, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from components.artifacts.contracts import Message

MAX_PARTS = 64
MAX_CHARACTERS = 1_000_000
MAX_TOOLS = 128
MAX_TOOL_CALLS = 128

Text = Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Wire(BaseModel):
    """Of an optional field, absent, null and empty mean the same. A field that is not known is an error."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_what_says_nothing(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        required = {field.alias or name for name, field in cls.model_fields.items() if field.is_required()}
        return {
            key: value
            for key, value in given.items()
            if value is not None and (key in required or value not in ("", [], {}))
        }


class Returned(Wire):
    """What clients send back, or decorate: of what is not known, nothing changes an answer."""

    model_config = ConfigDict(extra="ignore")


TextKind = Literal["text", "input_text", "output_text", "refusal"]
TEXT_PARTS = get_args(TextKind)


class TextPart(Returned):
    """One part of a message's content; only text is understood."""

    type: TextKind = "text"
    text: Text


def _text_of(content: Any) -> Any:
    """Parts of a content as one text, a line each; anything else as it is."""
    if not isinstance(content, list):
        return content
    if len(content) > MAX_PARTS:
        raise ValueError(f"has {len(content)} parts, more than {MAX_PARTS}; join them")
    return "\n".join(_text_of_part(part, number) for number, part in enumerate(content))


def _text_of_part(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    text = part.get("refusal" if kind == "refusal" else "text") if isinstance(part, dict) else None
    if kind in TEXT_PARTS and isinstance(text, str):
        return text
    if kind in TEXT_PARTS:
        raise ValueError(f"part {number} has no text; give {{'type': 'text', 'text': '…'}}")
    raise ValueError(f"part {number} is of type {kind!r}: this model reads only text; send parts of type 'text'")


Content = Annotated[Text, BeforeValidator(_text_of, json_schema_input_type=Text | list[TextPart])]


def _arguments(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error}); send what the model gave, or leave the call out") from error
    if not isinstance(parsed, dict):
        raise ValueError("is no JSON object; send what the model gave, or leave the call out")
    return parsed


class CalledFunction(Returned):
    """Which function an assistant has called, and with what; ``arguments`` is a JSON object as text."""

    name: Name
    arguments: Annotated[dict[str, Any], BeforeValidator(_arguments, json_schema_input_type=str)]


class ToolCall(Returned):
    """A call of an earlier answer."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class WireMessage(Returned):
    """One turn; ``developer`` is OpenAI's newer word for ``system``."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = ""
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    reasoning_content: Annotated[Text | None, Field(description="what the assistant thought before it answered")] = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOL_CALLS)] | None = None
    tool_call_id: Annotated[str, StringConstraints(max_length=256)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_complete(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("function_call"):
            raise ValueError("function_call is not known any more; use tool_calls")
        if given.get("audio"):
            raise ValueError("audio is not understood; this model reads only text")
        if given.get("role") in ("system", "developer", "user", "tool") and given.get("content") is None:
            raise ValueError(f"a message of the {given['role']} has no content; give a text")
        if given.get("role") == "assistant" and not given.get("content") and isinstance(given.get("refusal"), str):
            return {**given, "content": given["refusal"]}
        return given

    def to_message(self) -> Message:
        """The turn as Lorry's own."""
        if self.role != "assistant":
            role = "system" if self.role == "developer" else self.role
            return Message(role=role, content=self.content, tool_call_id=self.tool_call_id, name=self.name)
        calls = [call.model_dump() for call in self.tool_calls or ()]
        return Message(
            role="assistant",
            content=self.content,
            reasoning_content=self.reasoning_content,
            tool_calls=calls or None,
        )


class FunctionOfTool(Returned):
    """A function that may be called; ``parameters`` is a JSON schema of its arguments."""

    name: Name
    description: Annotated[str, StringConstraints(max_length=65_536)] | None = None
    parameters: dict[str, Any] | None = None


def _only_functions(kind: Any) -> Any:
    if isinstance(kind, str) and kind != "function":
        raise ValueError(f"a tool of type {kind!r} cannot be used here; give tools of type 'function'")
    return kind


class Tool(Wire):
    """What a model may call."""

    type: Annotated[Literal["function"], BeforeValidator(_only_functions)]
    function: FunctionOfTool


class NamedFunction(Wire):
    """The function that is to be called."""

    name: Name


class NamedTool(Wire):
    """``tool_choice`` that names a function."""

    type: Literal["function"] = "function"
    function: NamedFunction


def tool_choice_of(given: Any) -> Any:
    """A choice in either of OpenAI's forms: a word, or the tool that is to be called."""
    if isinstance(given, str):
        if given not in ("none", "auto", "required"):
            _refuse(f"{given!r} is no choice")
        return given
    if isinstance(given, dict) and given.get("type", "function") == "function" and "function" in given:
        return NamedTool.model_validate(given)
    if isinstance(given, dict) and given.get("type") in ("none", "auto", "required", "any"):
        return "required" if given["type"] == "any" else given["type"]
    return _refuse("it is of a form that is not known here")


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"{what}; give 'none', 'auto', 'required' or {{'type': 'function', 'function': {{'name': '…'}}}}")
