"""Which tools a request brings, and which of them the model may or must call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.model_server.tool_calls.format import CallFormat


@dataclass(frozen=True)
class ToolUse:
    """Tools in OpenAI's form, of which the model may call those in ``callable_names``, in the form of ``call_format``.

    ``must_call``: the answer is a call; ``parallel``: it may be several calls.
    """

    tools: Sequence[Mapping[str, Any]]
    callable_names: Sequence[str]
    call_format: CallFormat
    must_call: bool = False
    parallel: bool = True

    @property
    def parameters(self) -> dict[str, Mapping[str, Any]]:
        """The JSON schemas of the functions that may be called, by name."""
        functions = {tool["function"]["name"]: tool["function"] for tool in self.tools}
        return {name: functions[name].get("parameters") or {} for name in self.callable_names}
