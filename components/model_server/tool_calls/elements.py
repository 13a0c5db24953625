"""Arguments that are elements of their own, as Qwen3.5, GLM and Nemotron write them.

A string stands unquoted between the tags, every other value as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.model_server.guided_decoding.json_schema import as_followed, resolved, to_text
from components.model_server.guided_decoding.lark import lark_string
from components.model_server.tool_calls.arguments import NO_PARAMETERS, PROBE_ARGUMENTS, Term

_NAME = re.compile(r"[^\s<>]+")


@dataclass(frozen=True)
class ElementArguments:
    """(open KEY middle VALUE close)*"""

    open: str
    middle: str
    close: str

    @classmethod
    def cut(cls, after_name: str) -> tuple[str, ElementArguments, str] | None:
        """The text before ``PROBE_ARGUMENTS``, their form, and the text after them; None: they have another form."""
        texts, rest = [], after_name
        for word in (word for argument in PROBE_ARGUMENTS.items() for word in argument):
            before, found, rest = rest.partition(word)
            if not found:
                return None
            texts.append(before)
        first, middle, between, other = texts
        begin = between.rfind("<")
        opened, close = between[begin:], between[:begin]
        fits = begin >= 0 and close.strip() and first.endswith(opened) and rest.startswith(close)
        # "string" there would be the type of this value, and another value would have another.
        if not fits or middle != other or "string" in middle:
            return None
        return first.removesuffix(opened), cls(opened, middle, close), rest.removeprefix(close)

    def parse(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[str, int] | None:
        """See ``ArgumentsFormat``."""
        arguments, end = self._parse(text, begin, parameters)
        rest = text[end : end + len(self.open) + 64].lstrip()
        # Another argument may begin there.
        if not rest or self.open.startswith(rest) or rest.startswith(self.open):
            return None
        return _as_json(arguments), end

    def parse_truncated(self, text: str, begin: int, parameters: Mapping[str, Any]) -> str | None:
        """See ``ArgumentsFormat``."""
        return _as_json(self._parse(text, begin, parameters)[0])

    def rule(self, name: str, parameters: Mapping[str, Any], field: str, term: Term) -> str:
        """See ``ArgumentsFormat``.

        Arguments come in the order of the schema. Of a string's schema only ``enum`` and ``const`` are followed.
        """
        root = dict(parameters or NO_PARAMETERS)
        as_followed(to_text(root, field), field)
        properties, required = _object_of(root)
        definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
        lines, elements = [], []
        for number, (key, schema) in enumerate(properties.items()):
            begin = f"{term(self.open)} {lark_string(key)} {term(self.middle)}"
            end, choices = term(self.close), _choices_of(schema, root)
            element = f"{name}_{number}"
            if choices and not any(self.close.strip() in choice for choice in choices):
                lines.append(f"{element}: {begin} ({' | '.join(map(lark_string, choices))}) {end}")
            elif _may_be(schema, root, "string"):
                lines += [f"{element}: {begin} {element}_text", rf"{element}_text[lazy]: /(.|\n)*/ {end}"]
            else:
                whole = {**schema, **definitions} if isinstance(schema, dict) else {}
                lines.append(f"{element}: {begin} %json {as_followed(to_text(whole, field), field)} {end}")
            elements.append(element if key in required else f"{element}?")
        return "\n".join([f"{name}: {' '.join(elements)}" if elements else f'{name}: ""', *lines])

    def _parse(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """The arguments that are whole, and where they end."""
        properties, _ = _object_of(parameters)
        arguments: dict[str, Any] = {}
        while (opened := _end_of_tag(text, begin, self.open)) is not None:
            # A name can be any text, even one with spaces or tags: the longest known name is tried first.
            known = [key for key in properties if text.startswith(key, opened)]
            other = _NAME.match(text, opened)
            keys = [*sorted(known, key=len, reverse=True), *([other[0]] if other else [])]
            found = ((key, _end_of_tag(text, opened + len(key), self.middle)) for key in keys)
            key, value_begin = next(((key, end) for key, end in found if end is not None), ("", None))
            end = -1 if value_begin is None else text.find(self.close.strip(), value_begin)
            if value_begin is None or end < 0:
                break
            value = text[value_begin:end]
            # A newline belongs to the value only where the template writes none between tag and value.
            value = value.removeprefix("\n") if self.middle.endswith("\n") else value
            value = value.removesuffix("\n") if self.close.startswith("\n") else value
            arguments[key] = _parse_value(value, properties.get(key), parameters)
            begin = end + len(self.close.strip())
        return arguments, begin


def _as_json(arguments: Mapping[str, Any]) -> str:
    text = json.dumps(arguments, ensure_ascii=False)
    return text if text.isascii() or max(text) < "\ud800" or max(text) > "\udfff" else json.dumps(arguments)


def _end_of_tag(text: str, begin: int, tag: str) -> int | None:
    """Where a tag that begins at ``begin`` ends, with any white space before and within it; None: there is none."""
    for word in tag.split():
        while begin < len(text) and text[begin].isspace():
            begin += 1
        if not text.startswith(word, begin):
            return None
        begin += len(word)
    return begin


def _parse_value(text: str, schema: Any, root: Mapping[str, Any]) -> Any:
    if _may_be(schema, root, "string") and not (text.strip() == "null" and _may_be(schema, root, "null")):
        return text
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _object_of(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The properties of an object, by name, and the required ones; its schema may be composed by ``allOf``."""
    properties: dict[str, Any] = {}
    required: set[str] = set()
    for one in _schemas_of(parameters, parameters, ("allOf",)):
        if isinstance(one.get("properties"), dict):
            properties |= one["properties"]
        names = one.get("required")
        required |= {name for name in (names if isinstance(names, list) else ()) if isinstance(name, str)}
    return {**properties, **{name: {} for name in sorted(required - properties.keys())}}, required


def _choices_of(schema: Any, root: Mapping[str, Any]) -> list[str] | None:
    """The strings that a value may be, where the schema lists them; otherwise None."""
    resolved_schema: Mapping[str, Any] = next((one for one in _schemas_of(schema, root) if "$ref" not in one), {})
    constant = [resolved_schema["const"]] if "const" in resolved_schema else None
    values = resolved_schema.get("enum", constant)
    return values if isinstance(values, list) and values and all(isinstance(one, str) for one in values) else None


def _may_be(schema: Any, root: Mapping[str, Any], kind: str) -> bool:
    """Whether a value may have the JSON type ``kind``."""
    if kind == "string" and _choices_of(schema, root):
        return True
    kinds = [one.get("type") for one in _schemas_of(schema, root)]
    return any(one == kind or (isinstance(one, list) and kind in one) for one in kinds)


def _schemas_of(
    schema: Any, root: Mapping[str, Any], branches: tuple[str, ...] = ("anyOf", "oneOf", "allOf")
) -> Iterator[Mapping[str, Any]]:
    """A schema and all others for the same value that it contains or refers to; each reference is followed once."""
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
        for key in branches:
            waiting += one[key] if isinstance(one.get(key), list) else ()
