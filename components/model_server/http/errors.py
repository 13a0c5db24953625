"""Errors in OpenAI's shape, with the status that a client acts on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from components.errors import LorryError
from components.model_server.engine.interface import PromptTooLongError, QueueFullError, TimedOutError, UnavailableError
from components.model_server.engine.metrics import Metrics
from components.model_server.http.protocol import WireError

SECONDS_UNTIL_ANOTHER_POD_ANSWERS = "5"
LONGEST_MESSAGE = 2_000
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/livez", "/readyz", "/metrics")
# FastAPI's words where a body is of another encoding than JSON's, or endless.
UNREAD_BODY = "There was an error parsing the body"
# The field that an error of ours begins with.
FIELD = re.compile(r"([a-z_]+(?:\.[\w.]+)?): ")


class NoSuchModelError(LorryError):
    """The request is for a model that is not served here."""


def error_response(
    status: int, message: str, kind: str, *, param: str | None = None, code: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """An error as OpenAI's clients read it."""
    # What a client has sent is repeated in it, whatever that is and however long.
    message = message.encode(errors="backslashreplace").decode()
    message = message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"
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
        message, place = _in_words(error.errors()[0])
        return error_response(400, message, "invalid_request_error", param=place)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
        words, told = str(error.detail), HTTPStatus(error.status_code).phrase if error.status_code < 499 else ""
        if words == told and error.status_code == 404:
            words = f"nothing is at {request.url.path[:128]!r}; this server answers {', '.join(PATHS)}"
        elif words == told and error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            words = (
                f"{request.method} is not how {request.url.path[:128]!r} is asked; use {allowed or 'another method'}"
            )
        elif words == UNREAD_BODY:
            words = "the body cannot be read: it is no JSON in UTF-8, or has too many levels or digits; send plain JSON"
        return error_response(error.status_code, words, kind, headers=dict(error.headers or {}))

    @app.exception_handler(NoSuchModelError)
    async def no_model(_: Request, error: NoSuchModelError) -> JSONResponse:
        return error_response(404, str(error), "invalid_request_error", param="model", code="model_not_found")

    @app.exception_handler(PromptTooLongError)
    async def too_long(_: Request, error: PromptTooLongError) -> JSONResponse:
        return error_response(
            400, str(error), "invalid_request_error", param=error.field, code="context_length_exceeded"
        )

    @app.exception_handler(QueueFullError)
    async def busy(_: Request, error: QueueFullError) -> JSONResponse:
        return busy_response(error)

    @app.exception_handler(UnavailableError)
    @app.exception_handler(TimedOutError)
    async def unavailable(_: Request, error: UnavailableError | TimedOutError) -> JSONResponse:
        headers = {"Retry-After": SECONDS_UNTIL_ANOTHER_POD_ANSWERS}
        return error_response(503, str(error), "server_error", headers=headers)

    @app.exception_handler(LorryError)
    async def user_error(_: Request, error: LorryError) -> JSONResponse:
        metrics.rejected.labels("invalid").inc()
        field = FIELD.match(str(error))
        return error_response(400, str(error), "invalid_request_error", param=field.group(1) if field else None)


def _in_words(error: Mapping[str, Any]) -> tuple[str, str | None]:
    """What is wrong with a body, and which of its fields."""
    if error["type"] == "json_invalid":
        why = error.get("ctx", {}).get("error", "it breaks off")
        return f"the body is no JSON: {why} at character {error['loc'][-1]}; correct it", None
    if error["type"] == "missing" and len(error["loc"]) == 1:
        return "the body is empty; send a JSON object", None
    place = ".".join(str(part) for part in error["loc"][1:])
    words = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        words = "this server knows no such field; leave it out"
    elif error["type"] == "string_unicode":
        words = "holds half a character, a surrogate alone; correct it"
    elif error["type"] in ("model_attributes_type", "model_type") and not place:
        return "the body is no JSON object; send one, such as {'model': '…', 'messages': […]}", None
    if not place and (field := FIELD.match(words)):
        return words, field.group(1)
    return f"{place or 'body'}: {words}", place or None
