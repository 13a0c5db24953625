"""Tools that a request brings, and its choice between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NoReturn

from pydantic import BeforeValidator, StringConstraints

from components.model_server.http.protocol.base import LenientModel, Name, StrictModel

MAX_TOOLS = 128


class FunctionDefinition(LenientModel):
    """A function that may be called; ``parameters`` is a JSON schema of its arguments."""

    name: Name
    description: Annotated[str, StringConstraints(max_length=65_536)] | None = None
    parameters: dict[str, Any] | None = None


def _require_function(kind: Any) -> Any:
    if isinstance(kind, str) and kind != "function":
        raise ValueError(f"a tool of type {kind!r} cannot be used here; give tools of type 'function'")
    return kind


class Tool(StrictModel):
    """A tool that the model may call."""

    type: Annotated[Literal["function"], BeforeValidator(_require_function)]
    function: FunctionDefinition


class NamedFunction(StrictModel):
    """The function that must be called."""

    name: Name


class NamedToolChoice(StrictModel):
    """A ``tool_choice`` that names a function."""

    type: Literal["function"] = "function"
    function: NamedFunction


def _parse_tool_choice(given: Any) -> Any:
    """A choice in either of OpenAI's forms: a word, or the tool that must be called."""
    if isinstance(given, str):
        if given not in ("none", "auto", "required"):
            _refuse_choice(f"{given!r} is no choice")
        return given
    if isinstance(given, dict) and given.get("type", "function") == "function" and "function" in given:
        return NamedToolChoice.model_validate(given)
    if isinstance(given, dict) and given.get("type") in ("none", "auto", "required", "any"):
        return "required" if given["type"] == "any" else given["type"]
    return _refuse_choice("it has a form that is not supported")


def _refuse_choice(problem: str) -> NoReturn:
    raise ValueError(
        f"{problem}; give 'none', 'auto', 'required' or {{'type': 'function', 'function': {{'name': '…'}}}}"
    )


ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedToolChoice,
    BeforeValidator(_parse_tool_choice, json_schema_input_type=Literal["none", "auto", "required"] | NamedToolChoice),
]
