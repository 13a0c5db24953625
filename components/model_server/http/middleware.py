"""What happens to every request before and after its route: an id, a bound on its body, its key, room to wait, and one
line of log.

The line is JSON and never holds what users or the model have said.
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
from components.model_server.http.errors import busy_response, error_response
from components.model_server.http.protocol import MAX_BODY_BYTES
from components.model_server.http.responses import words_of

log = logging.getLogger(__name__)

# An id that a client gives is kept when it is harmless in a log.
HARMLESS_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
SLASHES = re.compile("/{2,}")
TOO_LONG = f"the body has more than {MAX_BODY_BYTES} bytes"
WITHOUT_KEY = ("/livez", "/readyz", "/health", "/v1/health", "/metrics")
ANSWERED = ("/v1/chat/completions", "/v1/completions")
# Probes come every second or so: a line for each would hide the others.
NOT_LOGGED = WITHOUT_KEY


class Gatekeeper:
    """An ASGI application around another."""

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
        scope["path"] = _plain(scope["path"])
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        told: dict[str, Any] = {"status": None}
        scope.setdefault("state", {})["told"] = told

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            refusal = self._refuse(scope, headers)
            if refusal is not None:
                await refusal(scope, receive, send_with_id)
            else:
                await self._app(scope, _Bounded(receive), send_with_id)
        except Exception as error:
            log.exception("a request failed")
            if told["status"] is not None:
                raise  # the answer has begun: only its end can tell
            await error_response(500, words_of(error), "server_error")(scope, receive, send_with_id)
        finally:
            if scope["path"] not in NOT_LOGGED:
                seconds = round(time.monotonic() - started, 3)
                head = {"request_id": request_id, "method": scope["method"], "path": scope["path"][:128]}
                log.info("%s", json.dumps({**head, **told, "seconds": seconds}))

    def _refuse(self, scope: Scope, headers: dict[bytes, bytes]) -> ASGIApp | None:
        """The answer to a request that goes no further; otherwise its key is noted."""
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self._metrics.rejected.labels("invalid").inc()
            return error_response(413, TOO_LONG, "invalid_request_error")
        if scope["path"] in WITHOUT_KEY:
            return None
        name = self._keys.name_of(headers.get(b"authorization", b""))
        if name is None:
            self._metrics.rejected.labels("unauthorized").inc()
            return error_response(
                401,
                "no valid API key; send one as 'Authorization: Bearer KEY'",
                "invalid_request_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        scope["state"]["key"] = name
        if name:
            scope["state"]["told"]["key"] = name
        if scope["path"] in ANSWERED and scope["method"] == "POST":
            if (words := _unread(headers)) is not None:
                self._metrics.rejected.labels("invalid").inc()
                return error_response(415, words, "invalid_request_error")
            # Here, and not in the route: a crowd that is refused must cost those who were admitted next to nothing.
            try:
                self._engine.require_capacity(name)
            except QueueFullError as error:
                return busy_response(error)
        return None


class _Bounded:
    """The body of a request as far as it may go, for one that comes without its length."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._n_bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._n_bytes += len(message.get("body", b""))
            if self._n_bytes > MAX_BODY_BYTES:
                raise HTTPException(413, TOO_LONG)
        return message


def _request_id(given: bytes) -> str:
    return given.decode() if HARMLESS_ID.fullmatch(given) else uuid.uuid4().hex


def _plain(path: str) -> str:
    """A path as it is routed: clients put slashes together from an address and a path, and one may be too many."""
    return SLASHES.sub("/", path).rstrip("/") or "/"


def _unread(headers: dict[bytes, bytes]) -> str | None:
    """Why a body cannot be read, by its headers."""
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if encoding not in ("", "identity"):
        return f"a body with Content-Encoding {encoding} is not read here; send it as it is, without that header"
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        return (
            f"Content-Type is {kind or 'missing'}; send the header 'Content-Type: application/json' with the JSON body"
        )
    return None
