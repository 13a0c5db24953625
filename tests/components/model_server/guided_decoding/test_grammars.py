"""Matchers for schemas and grammars over a real vocabulary; hostile ones are refused within bounds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from components.gguf.model import GgufModel
from components.model_server.guided_decoding.grammars import Grammars
from components.model_server.guided_decoding.json_schema import SchemaError, to_text


@pytest.fixture(scope="module")
def grammars(tiny_run) -> Iterator[Grammars]:
    model = GgufModel(tiny_run.model, n_ctx=64)
    yield Grammars(model)
    model.close()


def test_a_schema_is_taken(grammars):
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    assert not grammars.of_schema(to_text(schema)).is_accepting()


def doubling(depth: int) -> dict[str, object]:
    """Small to write, and twice as much at every level for whoever writes it out."""
    levels = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(depth)}
    return {"anyOf": [{"$ref": "#/$defs/a0"}], "$defs": {**levels, f"a{depth}": {"type": "null"}}}


HOSTILE: dict[str, dict[str, object]] = {
    "elsewhere": {"$ref": "http://127.0.0.1/schema.json"},
    "nowhere": {"$ref": "#/nowhere"},
    "an unknown type": {"type": "fish"},
    "a pattern that is none": {"type": "string", "pattern": "^(a"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused_with_the_reason(grammars, name):
    with pytest.raises(
        SchemaError, match=r"response_format: the schema (cannot be followed \(.*\); simplify it|holds half)"
    ):
        grammars.of_schema(to_text(HOSTILE[name]))


def test_a_long_schema_and_half_a_character_are_refused():
    with pytest.raises(SchemaError, match=r"has 200\d\d bytes, more than 16384; shorten it"):
        to_text({"description": "x" * 20_000})
    with pytest.raises(SchemaError, match="the schema holds half a character"):
        to_text(json.loads('{"const": "\\ud800"}'))


ODD: dict[str, dict[str, object]] = {
    "a pattern without end": {"type": "string", "pattern": "^a{0,999999999}$"},
    "doubling": doubling(50),
    "many values": {"enum": [f"value {number}" for number in range(900)]},
    "many optional properties": {"type": "object", "properties": {f"!{'@' * n}": {} for n in range(150)}},
    "a long list": {"type": "array", "items": {"type": "null"}, "minItems": 100_000},
    "half a character in a pattern": {"type": "string", "pattern": "^\\ud800$"},
    "a character of value 0": {"const": "\x00"},
    "backslashes and pictures": {"const": "C:\\new \U0001f600"},
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ODD)
def test_an_odd_schema_is_refused_or_followed_within_bounds(grammars, name):
    with contextlib.suppress(SchemaError):
        assert any(grammars.of_schema(to_text(ODD[name])).compute_bitmask())
