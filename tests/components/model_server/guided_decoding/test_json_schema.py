"""Schemas as people write them: what an answer may then be, token by token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pydantic
import pytest

from components.gguf.model import GgufModel
from components.model_server.guided_decoding.grammars import Grammars
from components.model_server.guided_decoding.json_schema import (
    MAX_BYTES,
    OPTIONS,
    SchemaError,
    as_followed,
    resolved,
    to_text,
)


@pytest.fixture(scope="module")
def follows(tiny_run) -> Iterator[Any]:
    """Whether a whole text follows a schema."""
    model = GgufModel(tiny_run.model, n_ctx=64)
    grammars = Grammars(model)

    def follows(schema: dict[str, Any], text: str) -> bool:
        matcher = grammars.of_schema(to_text(schema))
        tokens = model.tokenize(text, special=False)
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

    yield follows
    model.close()


A, B = {"type": "integer"}, {"type": "string"}
CLOSED = [
    ({"type": "object", "properties": {"a": A}}, '{"a": 1}', '{"a": 1, "b": 2}'),
    ({"type": "object", "properties": {"a": A}, "additionalProperties": True}, '{"a": 1, "b": 2}', '{"a": "x"}'),
    (
        {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": A}}}},
        '{"a": {"b": 1}}',
        '{"a": {"c": 1}}',
    ),
    ({"type": "array", "items": {"type": "object", "properties": {"a": A}}}, '[{"a": 1}]', '[{"z": 1}]'),
    (
        {"allOf": [{"$ref": "#/$defs/A"}, {"properties": {"b": A}}], "$defs": {"A": {"properties": {"a": A}}}},
        '{"a": 1, "b": 2}',
        '{"a": 1, "c": 2}',
    ),
    (
        {
            "type": "object",
            "properties": {"a": {"allOf": [{"$ref": "#/$defs/A"}]}},
            "$defs": {"A": {"properties": {"b": A}}},
        },
        '{"a": {"b": 1}}',
        '{"a": {"c": 1}}',
    ),
    (
        {"oneOf": [{"properties": {"a": A}, "required": ["a"]}, {"properties": {"b": A}, "required": ["b"]}]},
        '{"b": 1}',
        '{"a": 1, "b": 2}',
    ),
    (
        {
            "$ref": "#/$defs/T",
            "$defs": {"T": {"properties": {"a": A, "next": {"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}]}}}},
        },
        '{"a": 1, "next": {"a": 2, "next": null}}',
        '{"next": {"x": 1}}',
    ),
    ({"type": "object", "properties": {"a": A}, "required": ["b"]}, '{"a": 1, "b": [2]}', '{"a": 1}'),
    ({"type": "object"}, '{"any": [1, {"x": null}]}', "[]"),
    ({"type": "object", "properties": {"x-guidance": B}}, '{"x-guidance": "a"}', '{"y": 1}'),
    ({"type": "object", "patternProperties": {"^a": A}, "properties": {"b": B}}, '{"b": "x", "ab": 1}', '{"b": 1}'),
]


@pytest.mark.parametrize(("schema", "right", "wrong"), CLOSED, ids=lambda value: json.dumps(value)[:40])
def test_a_key_that_a_schema_does_not_name_is_not_invented(follows, schema, right, wrong):
    assert follows(schema, right)
    assert not follows(schema, wrong)


@pytest.mark.parametrize("text", ['{\n\n"a": 1}', '{  "a": 1}', '{"a":\n' + 33 * " " + "1}", '{"a": 1 \n}'])
def test_white_space_is_bounded(follows, text):
    schema = {"type": "object", "properties": {"a": A}}
    assert follows(schema, '{\n    "a": 1\n}')
    assert follows(schema, '{"a":1}')
    assert not follows(schema, text)


LENIENT = [
    *(
        {"type": "string", "format": name}
        for name in ("byte", "binary", "color", "int32", "regex", "idn-email", "path")
    ),
    {"type": "array", "items": B, "uniqueItems": True},
    {"type": "string", "not": {"const": "x"}},
    {"oneOf": [B, {"type": "string", "maxLength": 5}]},
    {"type": "array", "items": B, "contains": B, "minContains": 1},
    {"type": "string", "contentEncoding": "base64"},
    {"type": "string", "deprecated": True, "examples": ["a"], "x-order": 1},
    {"type": "string", "pattern": "^(?!x)[a-z]+$"},
    {"type": "string", "if": {}, "then": {}},
]


@pytest.mark.parametrize("schema", LENIENT, ids=json.dumps)
def test_what_llguidance_has_no_rule_for_is_left_to_the_model(follows, schema):
    assert follows(schema, '["q"]' if schema.get("type") == "array" else '"q"')


class Invoice(pydantic.BaseModel):
    amount: Decimal
    path: Path
    tags: set[str]
    secret: pydantic.SecretStr
    data: bytes


def test_a_schema_of_pydantics_is_followed(follows):
    assert follows(
        Invoice.model_json_schema(), '{"amount": 1.5, "path": "/a", "tags": ["x"], "secret": "s", "data": "d"}'
    )


def test_of_two_kinds_of_value_the_one_that_can_be_followed_is_given(follows):
    amount = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}]}
    assert follows(amount, "1.5")
    assert not follows(amount, '"any text"')


def test_llguidances_options_are_not_the_clients():
    theirs = {
        "x-guidance": {"whitespace_flexible": True, "item_separator": "x"},
        "type": "object",
        "properties": {"a": {"type": "string", "x-guidance": {"lenient": False}}},
    }
    followed = json.loads(as_followed(to_text(theirs)))
    assert followed.pop("x-guidance") == OPTIONS
    assert "x-guidance" not in json.dumps(followed)


@pytest.mark.timeout(60)
def test_references_that_double_at_every_level_are_walked_once():
    n = 150
    levels = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(n)}
    as_followed(
        to_text({"type": "array", "$defs": {**levels, f"d{n}": {"properties": {"a": A}}}, "items": {"type": "null"}})
    )


@pytest.mark.parametrize(
    "schema",
    [{"allOf": 5}, {"allOf": "abc"}, {"allOf": {"a": 1, "b": 2}}, {"properties": [1]}, {"properties": {"a": 1}},
     {"required": 5, "properties": {"a": {}}}, {"$ref": 5}, {"anyOf": "x", "properties": {"a": {}}},
     {"items": 5}, {"pattern": 5}],
    ids=json.dumps,
)  # fmt: skip
def test_what_is_no_schema_is_refused_in_words(schema):
    with pytest.raises(SchemaError, match="response_format: the schema cannot be followed"):
        as_followed(to_text(schema))


def followed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as llguidance follows it, without our options."""
    schema = json.loads(as_followed(to_text(schema)))
    assert schema.pop("x-guidance") == OPTIONS
    return schema


def test_keys_come_in_the_order_of_the_schema_with_required_ones_behind_them():
    schema = {"type": "object", "properties": {"z": A, "a": B}, "required": ["m", "a"]}
    assert list(followed(schema)["properties"]) == ["z", "a", "m"]


def test_what_is_closed_already_stays_as_it_is():
    schema = {"type": "object", "properties": {"a": A}, "required": ["a"], "additionalProperties": False}
    assert followed(schema) == schema
    assert followed(followed(schema)) == schema


@pytest.mark.parametrize("schema", [{"type": "object"}, {"type": "array", "items": {}}, {}, {"const": {"a": 1}}])
def test_a_schema_without_named_keys_is_not_closed(schema):
    assert followed(schema) == schema


def test_a_property_may_have_the_name_of_a_keyword():
    schema = {"type": "object", "properties": {"properties": A, "items": {"type": "array", "items": B}}}
    closed = followed(schema)
    assert closed["properties"] == schema["properties"]
    assert closed["additionalProperties"] is False


@pytest.mark.parametrize(
    ("reference", "found"),
    [("#", "root"), ("#/$defs/A", "a"), ("#/$defs/x~1y", "slash"), ("#/$defs/x~0y", "tilde"), ("#/$defs/B", None),
     ("#/title/B", None), ("other.json#/$defs/A", None), ("http://a/b", None), (5, None)],
)  # fmt: skip
def test_a_reference_leads_within_the_document_or_nowhere(reference, found):
    root = {"title": "root", "$defs": {"A": {"title": "a"}, "x/y": {"title": "slash"}, "x~y": {"title": "tilde"}}}
    schema = resolved(reference, root)
    assert (schema and schema["title"]) == found


def test_a_schema_as_text_is_bounded_by_its_bytes_and_says_where_it_comes_from():
    short = {"description": "é" * ((MAX_BYTES - len('{"description": ""}')) // 2)}
    assert len(to_text(short).encode()) in (MAX_BYTES, MAX_BYTES - 1)
    with pytest.raises(SchemaError, match=rf"tools: the schema has {MAX_BYTES + 2} bytes, more than {MAX_BYTES}"):
        to_text({"description": "x" * (MAX_BYTES + 2 - len('{"description": ""}'))}, "tools")


def test_levels_without_end_are_refused():
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"not": schema}
    with pytest.raises(SchemaError, match="levels without end"):
        to_text(schema)
