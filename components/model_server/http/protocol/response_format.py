"""Which JSON, if any, an answer must be."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from components.model_server.guided_decoding.json_schema import ANY_OBJECT
from components.model_server.http.protocol.base import Ignored, StrictModel


class NamedSchema(StrictModel):
    """A JSON schema that the answer must follow; it is always followed exactly, ``strict`` or not."""

    name: Annotated[str, StringConstraints(max_length=256)] = ""
    description: Ignored = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: Ignored = None


class ResponseFormat(StrictModel):
    """Any text, any JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None
    # Together and llama-cpp-python have a schema beside ``json_object``.
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None

    @model_validator(mode="after")
    def _require_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("has no json_schema; give {'name': '…', 'schema': {…}} there")
        return self

    def schema_of_answer(self) -> dict[str, Any] | None:
        """The schema of a JSON answer; None where it may be any text."""
        if self.type == "text":
            return None
        given = self.schema_ if self.json_schema is None else self.json_schema.schema_
        return ANY_OBJECT if given is None else given
