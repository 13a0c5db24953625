"""Errors in OpenAI's shape, with the status that a client acts on."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from components.errors import LorryError
from components.model_server.engine import PromptTooLongError, QueueFullError, StoppingError
from components.model_server.metrics import Metrics
from components.model_server.wire import WireError

SECONDS_UNTIL_ANOTHER_POD_ANSWERS = "5"


def error_response(
    status: int, message: str, kind: str, *, param: str | None = None, code: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """An error as OpenAI's clients read it."""
    return JSONResponse(WireError(message=message, type=kind, param=param, code=code).body(), status, headers)


def busy_response(error: QueueFullError) -> JSONResponse:
    """A 429 that says when to come again."""
    headers = {"Retry-After": str(error.retry_after_seconds)}
    return error_response(429, str(error), "rate_limit_error", code="queue_full", headers=headers)


def answer_errors_as_openai_does(app: FastAPI, metrics: Metrics) -> None:
    """Give every error of the application its status and shape."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        metrics.rejected.labels("invalid").inc()
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return error_response(400, f"{place or 'body'}: {first['msg']}", "invalid_request_error", param=place or None)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
        return error_response(error.status_code, str(error.detail), kind, headers=dict(error.headers or {}))

    @app.exception_handler(PromptTooLongError)
    async def too_long(_: Request, error: PromptTooLongError) -> JSONResponse:
        return error_response(
            400, str(error), "invalid_request_error", param="messages", code="context_length_exceeded"
        )

    @app.exception_handler(QueueFullError)
    async def busy(_: Request, error: QueueFullError) -> JSONResponse:
        return busy_response(error)

    @app.exception_handler(StoppingError)
    async def stopping(_: Request, error: StoppingError) -> JSONResponse:
        headers = {"Retry-After": SECONDS_UNTIL_ANOTHER_POD_ANSWERS}
        return error_response(503, str(error), "server_error", headers=headers)

    @app.exception_handler(LorryError)
    async def user_error(_: Request, error: LorryError) -> JSONResponse:
        metrics.rejected.labels("invalid").inc()
        return error_response(400, str(error), "invalid_request_error")
