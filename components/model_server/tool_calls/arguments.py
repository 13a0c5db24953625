"""The arguments of a call of a tool, as templates write them: mostly as a JSON object."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from components.model_server.guided_decoding.json_schema import as_followed, to_text

# Arguments that no tool has: a template shows with them how it writes any.
ARGUMENTS = {"lorrykey": "lorryvalue", "lorryother": "lorrythat"}
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
# Gives the Lark terms that match a text of the template, in which special tokens stand by their number; a text of the
# client's is a ``lark_string`` instead.
Term = Callable[[str], str]


class Arguments(Protocol):
    """How a template writes arguments."""

    def read(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[str, int] | None:
        """The arguments at a place of a text, as a JSON object, and where they end; None: they are not whole."""

    def begun(self, text: str, begin: int, parameters: Mapping[str, Any]) -> str | None:
        """As far as they have come; None where none are there."""

    def rule(self, name: str, parameters: Mapping[str, Any], field: str, term: Term) -> str:
        """Lines of a Lark grammar with a rule ``name``: arguments that follow a JSON schema.

        Raises:
            SchemaError: it cannot be followed.
        """


@dataclass(frozen=True)
class JsonArguments:
    """A JSON object."""

    def read(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[str, int] | None:
        """See ``Arguments``."""
        begin += len(text[begin:]) - len(text[begin:].lstrip())
        try:
            arguments, end = json.JSONDecoder().raw_decode(text, begin)
        except (ValueError, RecursionError):
            return None
        return (text[begin:end], end) if isinstance(arguments, dict) else None

    def begun(self, text: str, begin: int, parameters: Mapping[str, Any]) -> str | None:
        """See ``Arguments``."""
        come = text[begin:].lstrip()
        return come if come.startswith("{") or not come else None

    def rule(self, name: str, parameters: Mapping[str, Any], field: str, term: Term) -> str:
        """See ``Arguments``."""
        return f"{name}: %json {as_followed(to_text(parameters or NO_PARAMETERS, field), field)}"
