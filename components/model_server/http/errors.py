"""Errors in OpenAI's shape, with the status that a client acts on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from components.errors import LorryError, RequestError
from components.model_server.engine.interface import (
    PromptTooLongError,
    QueueFullError,
    TimedOutError,
    UnavailableError,
)
from components.model_server.engine.metrics import Metrics
from components.model_server.http.protocol.error import ErrorInfo

# Another pod answers by then, or this one is ready.
RETRY_AFTER_UNAVAILABLE_SECONDS = "5"
LONGEST_MESSAGE = 2_000
# The detail that FastAPI gives where a body is not JSON's encoding, or has too many levels.
UNREADABLE_BODY = "There was an error parsing the body"


class NoSuchModelError(LorryError):
    """The request is for a model that is not served here."""


def error_response(
    status: int, message: str, kind: str, *, param: str | None = None, code: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """An error as OpenAI's clients read it."""
    # A message may quote what a client has sent: of any length, and not always encodable as UTF-8.
    message = message.encode(errors="backslashreplace").decode()
    message = message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"
    return JSONResponse(ErrorInfo(message=message, type=kind, param=param, code=code).body(), status, headers)


def queue_full_response(error: QueueFullError) -> JSONResponse:
    """A 429 with the time after which to try again."""
    headers = {"Retry-After": str(error.retry_after_seconds)}
    return error_response(429, str(error), "rate_limit_error", code="queue_full", headers=headers)


def client_message(error: Exception) -> str:
    """What a client may read of an error: of an unexpected one only its kind, for its text may quote other requests."""
    if isinstance(error, LorryError):
        return str(error)
    return f"the server failed ({type(error).__name__}); its log says more"


def add_error_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Give every error of the application its status and OpenAI's shape."""

    async def invalid_body(_: Request, error: RequestValidationError) -> JSONResponse:
        metrics.rejected.labels("invalid").inc()
        message, field = _explain(error.errors()[0])
        return error_response(400, message, "invalid_request_error", param=field)

    async def invalid_request(_: Request, error: LorryError) -> JSONResponse:
        metrics.rejected.labels("invalid").inc()
        field = error.field if isinstance(error, RequestError) else None
        return error_response(400, str(error), "invalid_request_error", param=field)

    handlers: dict[type[Exception], Callable[[Request, Any], Awaitable[JSONResponse]]] = {
        RequestValidationError: invalid_body,
        HTTPException: _http_error,
        NoSuchModelError: _no_such_model,
        PromptTooLongError: _prompt_too_long,
        QueueFullError: _queue_full,
        UnavailableError: _unavailable,
        TimedOutError: _unavailable,
        LorryError: invalid_request,
    }
    for kind, handler in handlers.items():
        app.exception_handler(kind)(handler)


async def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
    message, path = str(error.detail), request.url.path[:128]
    # 499, for a client that has gone away, has no phrase.
    is_default = error.status_code < 499 and message == HTTPStatus(error.status_code).phrase
    if is_default and error.status_code == 404:
        message = f"there is nothing at {path!r}; this server has {', '.join(public_paths(request.app.routes))}"
    elif is_default and error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"{path!r} does not take {request.method}; use {allowed}"
    elif message == UNREADABLE_BODY:
        message = "the body cannot be read: it is no JSON in UTF-8, or has too many levels or digits; send plain JSON"
    return error_response(error.status_code, message, kind, headers=dict(error.headers or {}))


async def _no_such_model(_: Request, error: NoSuchModelError) -> JSONResponse:
    return error_response(404, str(error), "invalid_request_error", param="model", code="model_not_found")


async def _prompt_too_long(_: Request, error: PromptTooLongError) -> JSONResponse:
    return error_response(400, str(error), "invalid_request_error", param=error.field, code="context_length_exceeded")


async def _queue_full(_: Request, error: QueueFullError) -> JSONResponse:
    return queue_full_response(error)


async def _unavailable(_: Request, error: UnavailableError | TimedOutError) -> JSONResponse:
    headers = {"Retry-After": RETRY_AFTER_UNAVAILABLE_SECONDS}
    return error_response(503, str(error), "server_error", headers=headers)


def public_paths(routes: Sequence[BaseRoute]) -> Iterator[str]:
    """The paths of the routes that the API's schema shows."""
    return (route.path_format for route in routes if isinstance(route, APIRoute) and route.include_in_schema)


def _explain(error: Mapping[str, Any]) -> tuple[str, str | None]:
    """The message for one of pydantic's errors about a body, and the field at fault."""
    kind, details = error["type"], error.get("ctx", {})
    if kind == "json_invalid":
        return (
            f"the body is no JSON: {details.get('error', 'it ends early')} at character {error['loc'][-1]}; correct it",
            None,
        )
    if kind == "missing" and len(error["loc"]) == 1:
        return "the body is empty; send a JSON object", None
    if kind == "invalid_field":
        return error["msg"], details["field"]
    field = ".".join(str(part) for part in error["loc"][1:])
    if kind in ("model_attributes_type", "model_type") and not field:
        return "the body is no JSON object; send one, such as {'model': '…', 'messages': […]}", None
    message = error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = "this server has no such field; leave it out"
    elif kind == "string_unicode":
        message = "has an unpaired surrogate, which is half a character; correct it"
    return f"{field or 'body'}: {message}", field or None
