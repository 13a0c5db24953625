"""The base classes and field types of the protocol's models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

MAX_CHARACTERS = 1_000_000

Text = Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Ignored = Annotated[Any, Field(description="accepted, and changes nothing here")]


class StrictModel(BaseModel):
    """An unknown field is an error. An optional field that is absent, null or empty has its default."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_fields(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        required = {field.alias or name for name, field in cls.model_fields.items() if field.is_required()}
        return {
            key: value
            for key, value in given.items()
            if value is not None and (key in required or value not in ("", [], {}))
        }


class LenientModel(StrictModel):
    """An unknown field is ignored: clients send back, and decorate, what a server gave them."""

    model_config = ConfigDict(extra="ignore")


def field_error(field: str, message: str) -> PydanticCustomError:
    """The error of a validator that sees the whole body and finds ``field`` at fault."""
    return PydanticCustomError("invalid_field", "{field}: {message}", {"field": field, "message": message})
