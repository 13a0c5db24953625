"""The arguments of a call of a tool, as templates write them: a JSON object, or an element for each argument."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from components.model_server.json_schema import as_followed, resolved, to_text

# Arguments that no tool has: a template shows with them how it writes any.
ARGUMENTS = {"lorrykey": "lorryvalue", "lorryother": "lorrythat"}
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
# What of a grammar is a text as it stands.
Literal = Callable[[str], str]


class Arguments(Protocol):
    """How a template writes arguments."""

    def read(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[str, int] | None:
        """The arguments at a place of a text, as a JSON object, and where they end; None: they are not whole."""

    def begun(self, text: str, begin: int, parameters: Mapping[str, Any]) -> str | None:
        """As far as they have come; None where none are there."""

    def rule(self, name: str, parameters: Mapping[str, Any], field: str, literal: Literal) -> str:
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

    def rule(self, name: str, parameters: Mapping[str, Any], field: str, literal: Literal) -> str:
        """See ``Arguments``."""
        return f"{name}: %json {as_followed(to_text(parameters or NO_PARAMETERS, field), field)}"


@dataclass(frozen=True)
class ElementArguments:
    """(open KEY middle VALUE close)*: text as it stands, everything else as JSON."""

    open: str
    middle: str
    close: str

    @classmethod
    def cut(cls, behind: str) -> tuple[str, ElementArguments, str] | None:
        """What stands before, how they are written, and what stands behind ``ARGUMENTS``; None: they are otherwise."""
        texts, rest = [], behind
        for word in (word for argument in ARGUMENTS.items() for word in argument):
            before, found, rest = rest.partition(word)
            if not found:
                return None
            texts.append(before)
        first, middle, between, other = texts
        begin = between.rfind("<")
        opened, close = between[begin:], between[:begin]
        # "string" there is the type of a value, which other values have not.
        if (
            middle != other
            or "string" in middle
            or begin < 0
            or not first.endswith(opened)
            or not rest.startswith(close)
            or not close.strip()
        ):
            return None
        return first.removesuffix(opened), cls(opened, middle, close), rest.removeprefix(close)

    def read(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[str, int] | None:
        """See ``Arguments``."""
        arguments, end = self._read(text, begin, parameters)
        rest = text[end:].lstrip()
        # Another may begin there.
        if not rest or self.open.startswith(rest) or rest.startswith(self.open):
            return None
        return json.dumps(arguments, ensure_ascii=False), end

    def begun(self, text: str, begin: int, parameters: Mapping[str, Any]) -> str | None:
        """See ``Arguments``."""
        return json.dumps(self._read(text, begin, parameters)[0], ensure_ascii=False)

    def _read(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Those that are whole, and where they end."""
        arguments: dict[str, Any] = {}
        element = re.compile(
            rf"\s*{re.escape(self.open)}([^\s<>]+?){_stripped(self.middle)}(.*?){_stripped(self.close)}", re.DOTALL
        )
        while found := element.match(text, begin):
            key, value = found.groups()
            if self.middle.endswith("\n"):
                value = value.removeprefix("\n")
            if self.close.startswith("\n"):
                value = value.removesuffix("\n")
            arguments[key] = _value_of(value, (parameters.get("properties") or {}).get(key), parameters)
            begin = found.end()
        return arguments, begin

    def rule(self, name: str, parameters: Mapping[str, Any], field: str, literal: Literal) -> str:
        """See ``Arguments``. Arguments stand in the order of the schema."""
        root = dict(parameters or NO_PARAMETERS)
        as_followed(to_text(root, field), field)
        lines, elements = [], []
        definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
        for number, (key, schema) in enumerate((root.get("properties") or {}).items()):
            begin, end = literal(f"{self.open}{key}{self.middle}"), literal(self.close)
            values = _words_of(schema, root)
            element = f"{name}_{number}"
            if values:
                lines.append(f"{element}: {begin} ({' | '.join(map(literal, values))}) {end}")
            elif _is_text(schema, root):
                lines += [f"{element}: {begin} {element}_text", f"{element}_text[lazy]: /(.|\n)*/ {end}"]
            else:
                whole = {**schema, **definitions} if isinstance(schema, dict) else {}
                lines.append(f"{element}: {begin} %json {as_followed(to_text(whole, field), field)} {end}")
            elements.append(element if key in (root.get("required") or ()) else f"{element}?")
        return "\n".join([f"{name}: {' '.join(elements)}" if elements else f'{name}: ""', *lines])


def _stripped(text: str) -> str:
    """A pattern of a text without the white space around it, which a model does not always keep to."""
    return rf"\s*{re.escape(text.strip())}" if text.lstrip() == text else re.escape(text.strip())


def _value_of(text: str, schema: Any, root: Mapping[str, Any]) -> Any:
    if _is_text(schema, root):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _words_of(schema: Any, root: Mapping[str, Any]) -> list[str] | None:
    """The texts that a value may be, where they are counted."""
    schema = _followed(schema, root)
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return values if isinstance(values, list) and values and all(isinstance(one, str) for one in values) else None


def _is_text(schema: Any, root: Mapping[str, Any]) -> bool:
    schema = _followed(schema, root)
    if _words_of(schema, root):
        return True
    kinds = schema.get("type")
    if kinds == "string" or (isinstance(kinds, list) and "string" in kinds):
        return True
    branches = [one for key in ("anyOf", "oneOf", "allOf") for one in (schema.get(key) or ())]
    return any(_is_text(branch, root) for branch in branches if branch is not schema)


def _followed(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema, or what its reference stands for."""
    if isinstance(schema, dict) and "$ref" in schema:
        schema = resolved(schema["$ref"], root)
    return schema if isinstance(schema, dict) else {}
