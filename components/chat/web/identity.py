"""The user of a request: from a signed cookie, a login of the page's own, or a proxy's header."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import bcrypt
from fastapi import FastAPI, Request
from starlette.middleware.sessions import SessionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from components.errors import DataError

COOKIE = "lorry_chat"
COOKIE_SECONDS = 365 * 24 * 3600
SHORTEST_SECRET = 16
# The password of an unknown name is compared with this hash, so that the response takes as long as for a known one.
UNKNOWN_USER_HASH = bcrypt.hashpw(b"nobody", bcrypt.gensalt(10))


def secret_of(folder: Path) -> str:
    """The key that signs cookies: ``LORRY_CHAT_SECRET``, or a file that is made once.

    Raises:
        DataError: the file's key is so short that it can be guessed; whoever does can pretend to be any user.
    """
    if given := os.environ.get("LORRY_CHAT_SECRET"):
        return given
    path = folder / "cookie-secret"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(secrets.token_urlsafe(32), encoding="utf-8")
        part.replace(path)
    secret = path.read_text(encoding="utf-8").strip()
    if len(secret) < SHORTEST_SECRET:
        raise DataError(
            f"{path}: is too short for a secret; delete it, and a new one is made (all cookies become invalid)"
        )
    return secret


def by_cookie(app: FastAPI, secret: str) -> dict[str, Any]:
    """Name each browser in a signed cookie; returns the arguments for ``gr.mount_gradio_app``."""
    app.add_middleware(_NameVisitors)
    app.add_middleware(
        SessionMiddleware, secret_key=secret, session_cookie=COOKIE, max_age=COOKIE_SECONDS, same_site="lax"
    )
    return {"auth_dependency": lambda request: request.session.get("user")}


def by_header(name: str) -> dict[str, Any]:
    """Trust the user name that a proxy writes into a header; a request without it is rejected."""

    def user(request: Request) -> str | None:
        return request.headers.get(name) or None

    return {"auth_dependency": user}


def by_login(path: Path) -> dict[str, Any]:
    """Ask for a user name and password from a file as ``htpasswd -B`` writes it.

    Raises:
        DataError: the file cannot be read, or a line is not of that form.
    """
    hashes = _hashes(path)

    async def check(user: str, password: str) -> bool:
        known = hashes.get(user)
        # bcrypt is slow by design; in the event loop it would delay everybody's tokens.
        same = await asyncio.to_thread(bcrypt.checkpw, password.encode()[:72], known or UNKNOWN_USER_HASH)
        return same and known is not None

    login: Callable[[str, str], Awaitable[bool]] = check
    return {"auth": login}


def _hashes(path: Path) -> dict[str, bytes]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); make it with: htpasswd -B -c {path} NAME"
        ) from error
    hashes = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, separator, hashed = line.strip().partition(":")
        if not separator or not user or not hashed.startswith(("$2a$", "$2b$", "$2y$")):
            raise DataError(f"{path}: line {number} is not NAME:BCRYPT-HASH; make it with: htpasswd -B {path} NAME")
        hashes[user] = hashed.encode()
    if not hashes:
        raise DataError(f"{path}: names no user; add one with: htpasswd -B {path} NAME")
    return hashes


class _NameVisitors:
    """Names a browser at its first request, and renews its cookie each time that it loads the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/livez":
            known = scope["session"].get("user")
            if known is None or scope["path"] == "/":
                scope["session"]["user"] = known or secrets.token_hex(16)
        await self._app(scope, receive, send)
