"""Which JSON, if any, an answer must be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from components.model_server.guided_decoding.json_schema import ANY_OBJECT
from components.model_server.http.protocol.response_format import ResponseFormat

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("given", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, ANY_OBJECT),
        ({"type": "json_object", "schema": SCHEMA}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": False, "description": "d"}}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, ANY_OBJECT),
        ({"type": "text", "json_schema": {"name": "n", "schema": SCHEMA}}, None),
    ],
    ids=str,
)
def test_a_format_has_a_schema_or_none(given, schema):
    assert ResponseFormat.model_validate(given).schema_of_answer() == schema


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ({"type": "json_schema"}, "'schema'"),
        ({"type": "json_schema", "json_schema": {}}, "has no json_schema"),
        ({"type": "grammar"}, "json_object"),
        ({"type": "json_schema", "json_schema": {"schema": "x"}}, "dict"),
        ({"type": "json_schema", "json_schema": {"name": "x" * 257, "schema": SCHEMA}}, "256"),
        ({"type": "json_object", "grammar": "root ::= x"}, "Extra inputs"),
    ],
    ids=str,
)
def test_a_format_that_is_not_whole_is_refused(given, fact):
    with pytest.raises(ValidationError, match=fact):
        ResponseFormat.model_validate(given)
