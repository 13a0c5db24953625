"""A JSON schema of a client, made into a grammar that llama.cpp follows. The schema is hostile until it is bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from components.errors import LorryError

ANY_OBJECT: dict[str, Any] = {"type": "object"}
MAX_BYTES = 16_384
MAX_DEPTH = 16
MAX_NODES = 1_000
# minItems, maxLength and the like are written out in the grammar as that many copies.
MAX_REPETITIONS = 256
REPETITIONS = ("minItems", "maxItems", "minLength", "maxLength")


class SchemaError(LorryError):
    """The schema is too large, or says something that cannot be followed."""


def to_grammar(schema: dict[str, Any]) -> str:
    """The schema as a GBNF grammar whose first rule is ``root``.

    Raises:
        SchemaError: it is out of bounds, or its words are not understood.
    """
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    text = json.dumps(schema)
    if len(text) > MAX_BYTES:
        raise SchemaError(f"response_format: the schema has {len(text)} bytes, more than {MAX_BYTES}; shorten it")
    for n, (depth, key, value) in enumerate(_nodes(schema)):
        if depth > MAX_DEPTH or n > MAX_NODES:
            raise SchemaError(
                f"response_format: it is deeper than {MAX_DEPTH}, or has more than {MAX_NODES} parts; simplify it"
            )
        if key in REPETITIONS and (not isinstance(value, int) or not 0 <= value <= MAX_REPETITIONS):
            raise SchemaError(f"response_format: {key} is {value!r}; give a number from 0 to {MAX_REPETITIONS}")
        if key == "$ref" and not str(value).startswith("#/"):
            raise SchemaError(f"response_format: $ref {value!r} leads out of the schema; write that part into it")
    try:
        return str(json_schema_to_gbnf(text))
    except Exception as error:  # the converter asserts, and stumbles over what it does not expect
        raise SchemaError(
            f"response_format: the schema cannot be followed ({type(error).__name__}: {error}); simplify it"
        ) from error


def _nodes(part: Any, depth: int = 0, key: str = "") -> Iterator[tuple[int, str, Any]]:
    yield depth, key, part
    if depth > MAX_DEPTH:
        return
    if isinstance(part, dict):
        for name, value in part.items():
            yield from _nodes(value, depth + 1, name)
    elif isinstance(part, list):
        for value in part:
            yield from _nodes(value, depth + 1)
