"""Arguments of which each is an element of its own, as Qwen3.5, GLM and Nemotron write them.

Text stands as it is between the tags, everything else as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.model_server.guided_decoding.json_schema import as_followed, resolved, to_text
from components.model_server.guided_decoding.lark import lark_string
from components.model_server.tool_calls.arguments import ARGUMENTS, NO_PARAMETERS, Term

_NAME = re.compile(r"[^\s<>]+")


@dataclass(frozen=True)
class ElementArguments:
    """(open KEY middle VALUE close)*"""

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
        stands = begin >= 0 and close.strip() and first.endswith(opened) and rest.startswith(close)
        # "string" there is the type of a value, which other values have not.
        if not stands or middle != other or "string" in middle:
            return None
        return first.removesuffix(opened), cls(opened, middle, close), rest.removeprefix(close)

    def read(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[str, int] | None:
        """See ``Arguments``."""
        arguments, end = self._read(text, begin, parameters)
        rest = text[end : end + len(self.open) + 64].lstrip()
        # Another may begin there.
        if not rest or self.open.startswith(rest) or rest.startswith(self.open):
            return None
        return _as_json(arguments), end

    def begun(self, text: str, begin: int, parameters: Mapping[str, Any]) -> str | None:
        """See ``Arguments``."""
        return _as_json(self._read(text, begin, parameters)[0])

    def rule(self, name: str, parameters: Mapping[str, Any], field: str, term: Term) -> str:
        """See ``Arguments``. Arguments stand in the order of the schema; of a text only its words are followed."""
        root = dict(parameters or NO_PARAMETERS)
        as_followed(to_text(root, field), field)
        properties, required = _object_of(root)
        definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
        lines, elements = [], []
        for number, (key, schema) in enumerate(properties.items()):
            begin = f"{term(self.open)} {lark_string(key)} {term(self.middle)}"
            end, words = term(self.close), _words_of(schema, root)
            element = f"{name}_{number}"
            if words and not any(self.close.strip() in word for word in words):
                lines.append(f"{element}: {begin} ({' | '.join(map(lark_string, words))}) {end}")
            elif _may_be(schema, root, "string"):
                lines += [f"{element}: {begin} {element}_text", rf"{element}_text[lazy]: /(.|\n)*/ {end}"]
            else:
                whole = {**schema, **definitions} if isinstance(schema, dict) else {}
                lines.append(f"{element}: {begin} %json {as_followed(to_text(whole, field), field)} {end}")
            elements.append(element if key in required else f"{element}?")
        return "\n".join([f"{name}: {' '.join(elements)}" if elements else f'{name}: ""', *lines])

    def _read(self, text: str, begin: int, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Those that are whole, and where they end."""
        properties, _ = _object_of(parameters)
        arguments: dict[str, Any] = {}
        while (opened := _behind(text, begin, self.open)) is not None:
            # A name can be any text: those that are known come first.
            known = [key for key in properties if text.startswith(key, opened)]
            other = _NAME.match(text, opened)
            keys = [*sorted(known, key=len, reverse=True), *([other[0]] if other else [])]
            found = ((key, _behind(text, opened + len(key), self.middle)) for key in keys)
            key, value_begin = next(((key, place) for key, place in found if place is not None), ("", None))
            end = -1 if value_begin is None else text.find(self.close.strip(), value_begin)
            if value_begin is None or end < 0:
                break
            value = text[value_begin:end]
            # White space is skipped behind a tag, and is a part of the value where the template writes none.
            value = value.removeprefix("\n") if self.middle.endswith("\n") else value
            value = value.removesuffix("\n") if self.close.startswith("\n") else value
            arguments[key] = _value_of(value, properties.get(key), parameters)
            begin = end + len(self.close.strip())
        return arguments, begin


def _as_json(arguments: Mapping[str, Any]) -> str:
    text = json.dumps(arguments, ensure_ascii=False)
    return text if text.isascii() or max(text) < "\ud800" or max(text) > "\udfff" else json.dumps(arguments)


def _behind(text: str, begin: int, tag: str) -> int | None:
    """Where a tag ends that stands at a place, whatever white space is around and within it; None: none does."""
    for word in tag.split():
        while begin < len(text) and text[begin].isspace():
            begin += 1
        if not text.startswith(word, begin):
            return None
        begin += len(word)
    return begin


def _value_of(text: str, schema: Any, root: Mapping[str, Any]) -> Any:
    if _may_be(schema, root, "string") and not (text.strip() == "null" and _may_be(schema, root, "null")):
        return text
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _object_of(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The properties of an object, by name, and those that are required; its schema may be put together of others."""
    properties: dict[str, Any] = {}
    required: set[str] = set()
    for one in _what_is_said(parameters, parameters, ("allOf",)):
        if isinstance(one.get("properties"), dict):
            properties |= one["properties"]
        names = one.get("required")
        required |= {name for name in (names if isinstance(names, list) else ()) if isinstance(name, str)}
    return {**properties, **{name: {} for name in sorted(required - properties.keys())}}, required


def _words_of(schema: Any, root: Mapping[str, Any]) -> list[str] | None:
    """The texts that a value may be, where they are counted."""
    said: Mapping[str, Any] = next((one for one in _what_is_said(schema, root) if "$ref" not in one), {})
    values = said.get("enum", [said["const"]] if "const" in said else None)
    return values if isinstance(values, list) and values and all(isinstance(one, str) for one in values) else None


def _may_be(schema: Any, root: Mapping[str, Any], kind: str) -> bool:
    """Whether a value may be of a JSON type."""
    if kind == "string" and _words_of(schema, root):
        return True
    kinds = [one.get("type") for one in _what_is_said(schema, root)]
    return any(one == kind or (isinstance(one, list) and kind in one) for one in kinds)


def _what_is_said(
    schema: Any, root: Mapping[str, Any], branches: tuple[str, ...] = ("anyOf", "oneOf", "allOf")
) -> Iterator[Mapping[str, Any]]:
    """A schema, and all that says more of the same value; each reference is followed once."""
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
