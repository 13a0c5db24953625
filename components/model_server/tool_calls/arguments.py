"""The arguments of a tool call as chat templates write them: mostly as a JSON object."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from components.model_server.guided_decoding.json_schema import as_followed, to_text

# Arguments that no tool has: rendered with them, a template shows how it writes any.
PROBE_ARGUMENTS = {"lorrykey": "lorryvalue", "lorryother": "lorrythat"}
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
# Gives the Lark terms that match a text of the template, in which special tokens stand by their number; a text of the
# client's is a ``lark_string`` instead.
Term = Callable[[str], str]


class ArgumentsFormat(Protocol):
    """How a template writes arguments."""

    def parse(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[str, int] | None:
        """The arguments that begin at ``begin``, as a JSON object, and where they end; None: they are not whole."""

    def parse_truncated(self, text: str, begin: int, parameters: Mapping[str, Any]) -> str | None:
        """The arguments that begin at ``begin``, as far as ``text`` reaches; None: there are none."""

    def rule(self, name: str, parameters: Mapping[str, Any], field: str, term: Term) -> str:
        """Lines of a Lark grammar with a rule ``name``: arguments that follow a JSON schema.

        Raises:
            SchemaError: the schema cannot be followed.
        """


@dataclass(frozen=True)
class JsonArguments:
    """A JSON object."""

    def parse(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[str, int] | None:
        """See ``ArgumentsFormat``."""
        begin += len(text[begin:]) - len(text[begin:].lstrip())
        try:
            arguments, end = json.JSONDecoder().raw_decode(text, begin)
        except (ValueError, RecursionError):
            return None
        return (text[begin:end], end) if isinstance(arguments, dict) else None

    def parse_truncated(self, text: str, begin: int, parameters: Mapping[str, Any]) -> str | None:
        """See ``ArgumentsFormat``."""
        arguments = text[begin:].lstrip()
        return arguments if arguments.startswith("{") or not arguments else None

    def rule(self, name: str, parameters: Mapping[str, Any], field: str, term: Term) -> str:
        """See ``ArgumentsFormat``."""
        return f"{name}: %json {as_followed(to_text(parameters or NO_PARAMETERS, field), field)}"
