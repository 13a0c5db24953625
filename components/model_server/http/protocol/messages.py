"""Messages of a conversation. Any server's earlier answer comes back in them, so they are read leniently."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from components.artifacts.contracts import Message
from components.model_server.http.protocol.base import LenientModel, Name, Text

MAX_PARTS = 64
MAX_TOOL_CALLS = 128

TextKind = Literal["text", "input_text", "output_text", "refusal"]
TEXT_PARTS = get_args(TextKind)


class TextPart(LenientModel):
    """One part of a message's content; only text is supported."""

    type: TextKind = "text"
    text: Text


def _text_of(content: Any) -> Any:
    """A list of parts as one text, one part per line; any other content unchanged."""
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


def _parse_arguments(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error}); send what the model gave, or leave the call out") from error
    if not isinstance(parsed, dict):
        raise ValueError("is no JSON object; send what the model gave, or leave the call out")
    return parsed


class CalledFunction(LenientModel):
    """The function that an assistant has called; ``arguments`` is a JSON object, as text in the body."""

    name: Name
    arguments: Annotated[dict[str, Any], BeforeValidator(_parse_arguments, json_schema_input_type=str)]


class ToolCall(LenientModel):
    """A tool call of an earlier answer."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(LenientModel):
    """One turn; ``developer`` is OpenAI's newer word for ``system``."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = ""
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    reasoning_content: Annotated[Text | None, Field(description="the assistant's reasoning before its answer")] = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOL_CALLS)] | None = None
    tool_call_id: Annotated[str, StringConstraints(max_length=256)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_parts(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("function_call"):
            raise ValueError("function_call is no longer supported; use tool_calls")
        if given.get("audio"):
            raise ValueError("audio is not supported; this model reads only text")
        if given.get("role") in ("system", "developer", "user", "tool") and given.get("content") is None:
            raise ValueError(f"a {given['role']} message has no content; give a text")
        if given.get("role") == "assistant" and not given.get("content") and isinstance(given.get("refusal"), str):
            return {**given, "content": given["refusal"]}
        return given

    def to_message(self) -> Message:
        """The turn in Lorry's own form."""
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
