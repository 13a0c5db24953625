"""The shape of an error."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class ErrorInfo(BaseModel):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None

    def body(self) -> dict[str, Any]:
        """The JSON body of the response."""
        return {"error": self.model_dump()}
