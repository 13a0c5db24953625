"""The arguments of a call of a tool, as templates write them: a JSON object, or an element for each argument."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from components.model_server.json_schema import as_followed, resolved, to_text

# Arguments that no tool has: a template shows with them how it writes any.
ARGUMENTS = {"lorrykey": "lorryvalue", "lorryother": "lorrythat"}
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
# Terms of a grammar that stand for a text of the template's; what comes from a client is ``as_text``.
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
        properties = parameters.get("properties") or {}
        # A name can be any text: those that are known come first.
        keys = "|".join([*(re.escape(key) for key in sorted(properties, key=len, reverse=True)), r"[^\s<>]+?"])
        element = re.compile(
            rf"\s*{re.escape(self.open)}({keys}){_stripped(self.middle)}(.*?){_stripped(self.close)}", re.DOTALL
        )
        while found := element.match(text, begin):
            key, value = found.groups()
            if self.middle.endswith("\n"):
                value = value.removeprefix("\n")
            if self.close.startswith("\n"):
                value = value.removesuffix("\n")
            arguments[key] = _value_of(value, properties.get(key), parameters)
            begin = found.end()
        return arguments, begin

    def rule(self, name: str, parameters: Mapping[str, Any], field: str, literal: Literal) -> str:
        """See ``Arguments``. Arguments stand in the order of the schema."""
        root = dict(parameters or NO_PARAMETERS)
        as_followed(to_text(root, field), field)
        lines, elements = [], []
        definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
        for number, (key, schema) in enumerate((root.get("properties") or {}).items()):
            begin = f"{literal(self.open)} {as_text(key)} {literal(self.middle)}"
            end, values = literal(self.close), _words_of(schema, root)
            element = f"{name}_{number}"
            if values and not any(self.close.strip() in value for value in values):
                lines.append(f"{element}: {begin} ({' | '.join(map(as_text, values))}) {end}")
            elif _is_text(schema, root):
                lines += [f"{element}: {begin} {element}_text", f"{element}_text[lazy]: /(.|\n)*/ {end}"]
            else:
                whole = {**schema, **definitions} if isinstance(schema, dict) else {}
                lines.append(f"{element}: {begin} %json {as_followed(to_text(whole, field), field)} {end}")
            elements.append(element if key in (root.get("required") or ()) else f"{element}?")
        return "\n".join([f"{name}: {' '.join(elements)}" if elements else f'{name}: ""', *lines])


def as_text(text: str) -> str:
    """A term of a Lark grammar that stands for a text, whatever is in it."""
    return json.dumps(text, ensure_ascii=False)


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
    first: Mapping[str, Any] = next((one for one in _what_is_said(schema, root) if "$ref" not in one), {})
    values = first.get("enum", [first["const"]] if "const" in first else None)
    return values if isinstance(values, list) and values and all(isinstance(one, str) for one in values) else None


def _is_text(schema: Any, root: Mapping[str, Any]) -> bool:
    """Whether a value may be a text."""
    if _words_of(schema, root):
        return True
    kinds = [one.get("type") for one in _what_is_said(schema, root)]
    return any(kind == "string" or (isinstance(kind, list) and "string" in kind) for kind in kinds)


def _what_is_said(schema: Any, root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A schema, and all that says what else its value may be; each reference is followed once."""
    waiting, seen = [schema], set()
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, dict):
            continue
        yield one
        reference = one.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            waiting.append(resolved(reference, root))
        for key in ("anyOf", "oneOf", "allOf"):
            waiting += one[key] if isinstance(one.get(key), list) else ()
