"""JSON schemas of clients, in the form in which llguidance follows them.

The model cannot add a key that the schema does not name, white space is bounded, and keywords that llguidance has no
rule for (an unknown ``format``, ``uniqueItems``, ``not``) do not restrict the model. A schema is hostile: llguidance
accepts or refuses it, and bounds its own work; its options (``x-guidance``) cannot be set by the client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from components.errors import RequestError

ANY_OBJECT: dict[str, Any] = {"type": "object"}
MAX_BYTES = 16_384
# A space, or a new line with the indentation of some ten levels: a model that likes white space ends all the same.
OPTIONS: dict[str, Any] = {"whitespace_pattern": r"[ ]?|\n[ \t]{0,32}", "coerce_one_of": True, "lenient": True}
OPTIONS_KEY = "x-guidance"

# Keywords whose value is a subschema, a list of subschemas, or subschemas by name.
SINGLE = ("items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "contains",
          "propertyNames", "not", "if", "then", "else")  # fmt: skip
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
DEFINITIONS = ("$defs", "definitions")
BY_NAME = ("properties", "patternProperties", "dependentSchemas", *DEFINITIONS)
# "In-place applicators": their subschemas apply to the same value as the schema itself.
IN_PLACE = ("allOf", "anyOf", "oneOf")
ABOUT_OTHER_KEYS = ("additionalProperties", "patternProperties", "unevaluatedProperties")


class SchemaError(RequestError):
    """The schema is too large, or says something that cannot be followed."""


def to_text(schema: Mapping[str, Any], field: str = "response_format") -> str:
    """The schema as JSON; ``field`` of the request is where it comes from.

    Raises:
        SchemaError: it is too long, or no text.
    """
    try:
        n_bytes = len((text := json.dumps(schema, ensure_ascii=False)).encode())
    except (UnicodeEncodeError, RecursionError) as error:
        why = "half a character" if isinstance(error, UnicodeEncodeError) else "levels without end"
        raise SchemaError(field, f"the schema holds {why}; correct it") from error
    if n_bytes > MAX_BYTES:
        raise SchemaError(field, f"the schema has {n_bytes} bytes, more than {MAX_BYTES}; shorten it")
    return text


def as_followed(text: str, field: str = "response_format") -> str:
    """A schema in the form in which llguidance follows it, with our options in it.

    Raises:
        SchemaError: it cannot be followed.
    """
    from llguidance import LLMatcher

    try:
        for form in _forms(_without_options(json.loads(text))):
            followed = json.dumps({**form, OPTIONS_KEY: OPTIONS}, ensure_ascii=False)
            try:
                wrong, messages = LLMatcher.validate_grammar_with_warnings(LLMatcher.grammar_from_json_schema(followed))
            except ValueError as error:
                wrong, messages = True, [str(error)]
            if not wrong:
                return followed
    except RecursionError as error:
        raise SchemaError(field, "the schema has too many levels; make it flatter") from error
    why = " ".join(" ".join(map(str, messages)).split())[:300]
    raise SchemaError(field, f"the schema cannot be followed ({why}); simplify it")


def _forms(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema with its objects closed, and as it is; then both without patterns that llguidance cannot read."""
    closed = _closed(schema, schema, _in_place_references(schema))
    yield from (closed, schema)
    yield from map(_without_unknown_patterns, (closed, schema))


def _without_options(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != OPTIONS_KEY}
    return _map_subschemas(kept, _without_options)


def _map_subschemas(schema: dict[str, Any], change: Any) -> dict[str, Any]:
    """The schema with ``change`` applied to each of its direct subschemas."""
    changed = dict(schema)
    for key, value in schema.items():
        if key in BY_NAME and isinstance(value, dict):
            changed[key] = {name: change(one) for name, one in value.items()}
        elif key in LISTS and isinstance(value, list):
            changed[key] = [change(one) for one in value]
        elif key in SINGLE and isinstance(value, dict):
            changed[key] = change(value)
    return changed


def _closed(schema: Any, root: Any, parts: set[str], *, is_part: bool = False) -> Any:
    """The schema, in which an object has only keys that are named.

    ``is_part``: another schema applies it in place, and is closed as a whole; ``parts`` are the references to such
    schemas.
    """
    if not isinstance(schema, dict):
        return schema
    names = None if is_part else _names(schema, root)
    closed = dict(schema)
    for key, value in schema.items():
        if key in IN_PLACE and isinstance(value, list):
            closed[key] = [_closed(one, root, parts, is_part=is_part or names is not None) for one in value]
        elif key in DEFINITIONS and isinstance(value, dict):
            closed[key] = {
                name: _closed(one, root, parts, is_part=f"#/{key}/{name}" in parts) for name, one in value.items()
            }
        else:
            closed |= _map_subschemas({key: value}, lambda one: _closed(one, root, parts))
    if names is None or (_is_composed(schema) and not names):
        return closed
    named = dict.fromkeys(sorted(names), True)
    if not _is_composed(schema):
        # In the order of the schema: a model writes the keys so.
        given = closed["properties"]
        properties = given | {name: True for name in named if name not in given}
        return {**closed, "properties": properties, "additionalProperties": False}
    several = closed.get("allOf")
    only = {"properties": named, "additionalProperties": False}
    return {**closed, "allOf": [*(several if isinstance(several, list) else ()), only]}


def _is_composed(schema: Mapping[str, Any]) -> bool:
    return "$ref" in schema or any(isinstance(schema.get(key), list) for key in IN_PLACE)


def _names(schema: Mapping[str, Any], root: Any) -> set[str] | None:
    """The keys that an object may have: those that its schema and the schemas applied in place name.

    None where it is no object, or may have others, or where each of its branches is closed by itself.
    """
    several = schema.get("allOf")
    if not isinstance(schema.get("properties"), dict) and not (isinstance(several, list) and len(several) > 1):
        return None
    return _names_in(schema, root, set())


def _names_in(schema: Any, root: Any, seen: set[str]) -> set[str] | None:
    """The keys that a schema names, with the schemas that it applies in place; None: others are allowed, too."""
    if not isinstance(schema, dict):
        return set()
    if any(key in schema for key in ABOUT_OTHER_KEYS):
        return None
    properties, required = schema.get("properties"), schema.get("required")
    names = {*(properties if isinstance(properties, dict) else ())}
    names |= {name for name in (required if isinstance(required, list) else ()) if isinstance(name, str)}
    for part in _in_place_subschemas(schema, root, seen):
        more = _names_in(part, root, seen)
        if more is None:
            return None
        names |= more
    return names


def _in_place_subschemas(schema: Mapping[str, Any], root: Any, seen: set[str]) -> list[Any]:
    """The schemas that are applied in place; a reference that was ``seen`` is not followed again."""
    parts = [one for key in IN_PLACE if isinstance(schema.get(key), list) for one in schema[key]]
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference not in seen:
        seen.add(reference)
        parts.append(resolved(reference, root))
    return parts


def resolved(reference: Any, root: Any) -> Any:
    """What a reference within the document stands for; None where it leads elsewhere."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = root
    for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found


def _in_place_references(root: Any) -> set[str]:
    """The references to schemas that another schema applies in place."""
    seen: set[str] = set()
    waiting: list[Any] = [one for one in _all_subschemas(root) if _is_composed(one) and _names(one, root) is not None]
    while waiting:
        at = waiting.pop()
        if isinstance(at, dict):
            waiting += _in_place_subschemas(at, root, seen)
    return seen


def _all_subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(schema, dict):
        return
    yield schema
    for key, value in schema.items():
        if key in BY_NAME and isinstance(value, dict):
            for one in value.values():
                yield from _all_subschemas(one)
        elif key in LISTS and isinstance(value, list):
            for one in value:
                yield from _all_subschemas(one)
        elif key in SINGLE:
            yield from _all_subschemas(value)


def _is_regex(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _without_unknown_patterns(schema: Any) -> Any:
    """The schema without patterns that llguidance cannot read, such as those that look ahead.

    Of several alternatives, those without such patterns are kept.
    """
    if not isinstance(schema, dict):
        return schema
    kept = dict(schema)
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            kept[key] = [one for one in schema[key] if not _has_unknown_pattern(one)] or schema[key]
    if _has_unknown_pattern(schema):
        del kept["pattern"]
    return _map_subschemas(kept, _without_unknown_patterns)


def _has_unknown_pattern(schema: Any) -> bool:
    from llguidance import LLMatcher

    if not isinstance(schema, dict) or not isinstance(schema.get("pattern"), str) or not _is_regex(schema["pattern"]):
        return False
    alone = json.dumps({"type": "string", "pattern": schema["pattern"]})
    return bool(LLMatcher.validate_grammar_with_warnings(LLMatcher.grammar_from_json_schema(alone))[0])
