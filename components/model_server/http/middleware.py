"""What every request passes before and after its route: an id, a bound on its body, its API key, admission to the
queue, and one line of log.

The line is JSON and never contains what users or the model have written.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.model_server.engine.interface import Engine, QueueFullError
from components.model_server.engine.metrics import Metrics
from components.model_server.http.api_keys import ApiKeys
from components.model_server.http.errors import client_message, error_response, queue_full_response

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 << 20
# A client's own id is kept if it is harmless in a log.
HARMLESS_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
SLASHES = re.compile("/{2,}")
BODY_TOO_LONG = f"the body has more than {MAX_BODY_BYTES} bytes"
PATHS_WITHOUT_KEY = ("/livez", "/readyz", "/health", "/v1/health", "/metrics")
COMPLETION_PATHS = ("/v1/chat/completions", "/v1/completions")
# Probes come every second or so: a line for each would hide the others.
PATHS_NOT_LOGGED = PATHS_WITHOUT_KEY


class RequestMiddleware:
    """An ASGI application around another.

    It leaves in the request's state ``key``, the name of the API key, and ``access_log_fields``, to which the route
    adds what the line of log shall say.
    """

    def __init__(self, app: ASGIApp, engine: Engine, keys: ApiKeys, metrics: Metrics) -> None:
        self._app = app
        self._engine = engine
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        scope["path"] = _normalized(scope["path"])
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        access_log_fields: dict[str, Any] = {"status": None}
        scope.setdefault("state", {})["access_log_fields"] = access_log_fields

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                access_log_fields["status"] = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal is not None:
                await refusal(scope, receive, send_with_id)
            else:
                await self._app(scope, _BoundedBody(receive), send_with_id)
        except Exception as error:
            log.exception("a request failed")
            if access_log_fields["status"] is not None:
                raise  # the response has begun: a client notices only that it ends early
            await error_response(500, client_message(error), "server_error")(scope, receive, send_with_id)
        finally:
            if scope["path"] not in PATHS_NOT_LOGGED:
                seconds = round(time.monotonic() - started, 3)
                head = {"request_id": request_id, "method": scope["method"], "path": scope["path"][:128]}
                log.info("%s", json.dumps({**head, **access_log_fields, "seconds": seconds}))

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> ASGIApp | None:
        """The response to a request that does not reach its route; None for one that does, whose key is then known."""
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self._metrics.rejected.labels("invalid").inc()
            return error_response(413, BODY_TOO_LONG, "invalid_request_error")
        if scope["path"] in PATHS_WITHOUT_KEY:
            return None
        key_name = self._keys.name_of(headers.get(b"authorization", b""))
        if key_name is None:
            self._metrics.rejected.labels("unauthorized").inc()
            return error_response(
                401,
                "no valid API key; send one as 'Authorization: Bearer KEY'",
                "invalid_request_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        scope["state"]["key"] = key_name
        if key_name:
            scope["state"]["access_log_fields"]["key"] = key_name
        if scope["path"] in COMPLETION_PATHS and scope["method"] == "POST":
            return self._completion_refusal(headers, key_name)
        return None

    def _completion_refusal(self, headers: dict[bytes, bytes], key_name: str) -> ASGIApp | None:
        """Checked here and not in the route: refusing a crowd must cost the admitted requests next to nothing."""
        if (problem := _unreadable(headers)) is not None:
            self._metrics.rejected.labels("invalid").inc()
            return error_response(415, problem, "invalid_request_error")
        try:
            self._engine.require_capacity(key_name)
        except QueueFullError as error:
            return queue_full_response(error)
        return None


class _BoundedBody:
    """Receives a body up to ``MAX_BODY_BYTES``, for a request that does not give its length."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._n_bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._n_bytes += len(message.get("body", b""))
            if self._n_bytes > MAX_BODY_BYTES:
                raise HTTPException(413, BODY_TOO_LONG)
        return message


def _request_id(given: bytes) -> str:
    return given.decode() if HARMLESS_ID.fullmatch(given) else uuid.uuid4().hex


def _normalized(path: str) -> str:
    """A path as it is routed: a client that joins an address and a path may write a slash too many."""
    return SLASHES.sub("/", path).rstrip("/") or "/"


def _unreadable(headers: dict[bytes, bytes]) -> str | None:
    """Why a body cannot be read, judged by its headers; None where it can."""
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if encoding not in ("", "identity"):
        return f"Content-Encoding {encoding} is not supported; send the body as it is, without that header"
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        return (
            f"Content-Type is {kind or 'missing'}; send the header 'Content-Type: application/json' with the JSON body"
        )
    return None
