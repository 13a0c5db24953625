"""What holds for every model of the protocol: empty fields, unknown ones, errors of whole bodies."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError, model_validator

from components.model_server.http.protocol.base import LenientModel, StrictModel, field_error


class Inner(LenientModel):
    text: str = "default"


class Outer(StrictModel):
    required: str
    number: int = 3
    flag: bool = True
    names: list[str] | None = None
    inner: Inner = Inner()

    @model_validator(mode="before")
    @classmethod
    def _refuse_both(cls, given: Any) -> Any:
        if isinstance(given, dict) and "flag" in given and "number" in given:
            raise field_error("number", "goes not with {flag}")
        return given


DEFAULT = Outer(required="x")


@pytest.mark.parametrize("empty", [None, "", [], {}], ids=repr)
@pytest.mark.parametrize("field", ["number", "flag", "names", "inner"])
def test_an_optional_field_that_is_empty_has_its_default(field, empty):
    assert Outer.model_validate({"required": "x", field: empty}) == DEFAULT


@pytest.mark.parametrize(("field", "value"), [("number", 0), ("flag", False)])
def test_zero_and_false_are_not_empty(field, value):
    assert getattr(Outer.model_validate({"required": "x", field: value}), field) == value


def test_a_required_field_may_be_empty_but_not_null():
    assert Outer.model_validate({"required": ""}).required == ""
    with pytest.raises(ValidationError, match="Field required"):
        Outer.model_validate({"required": None})


def test_an_unknown_field_is_an_error_or_ignored():
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Outer.model_validate({"required": "x", "other": 1})
    assert Outer.model_validate({"required": "x", "other": None}) == DEFAULT
    assert Outer.model_validate({"required": "x", "inner": {"text": "a", "other": 1}}).inner == Inner(text="a")


@pytest.mark.parametrize("given", ["x", 5, [1], None])
def test_what_is_no_object_is_an_error(given):
    with pytest.raises(ValidationError):
        Outer.model_validate(given)


def test_an_error_of_the_whole_body_names_its_field_and_keeps_the_message_as_it_is():
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate({"required": "x", "number": 1, "flag": True})
    (error,) = refused.value.errors()
    assert (error["type"], error["loc"], error["ctx"]["field"]) == ("invalid_field", (), "number")
    assert error["msg"] == "number: goes not with {flag}"
