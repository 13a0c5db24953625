"""Who asks: a signed cookie, a login of the page's own, or the name that a proxy in front has checked."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import bcrypt
import gradio as gr
from fastapi import FastAPI, Request
from starlette.middleware.sessions import SessionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from components.errors import DataError

COOKIE = "lorry_chat"
COOKIE_SECONDS = 365 * 24 * 3600
SHORTEST_SECRET = 16
# Compared with when a name is unknown, so that the answer takes as long as for one that is known.
NOBODY = bcrypt.hashpw(b"nobody", bcrypt.gensalt(10))


def secret_of(folder: Path) -> str:
    """What cookies are signed with: ``LORRY_CHAT_SECRET``, or a file that is made once.

    Raises:
        DataError: the file has hardly anything in it; whoever guesses it is anybody.
    """
    if given := os.environ.get("LORRY_CHAT_SECRET"):
        return given
    path = folder / "cookie-secret"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".part")
        half.touch(mode=0o600)
        half.write_text(secrets.token_urlsafe(32), encoding="utf-8")
        half.replace(path)
    secret = path.read_text(encoding="utf-8").strip()
    if len(secret) < SHORTEST_SECRET:
        raise DataError(f"{path}: is too short for a secret; delete it, and a new one is made (cookies begin anew)")
    return secret


def by_cookie(app: FastAPI, secret: str) -> dict[str, Any]:
    """Give each browser a name that nobody else can take; gives what Gradio needs to know."""
    app.add_middleware(_NamesVisitors)
    app.add_middleware(
        SessionMiddleware, secret_key=secret, session_cookie=COOKIE, max_age=COOKIE_SECONDS, same_site="lax"
    )
    return {"auth_dependency": lambda request: request.session.get("user")}


def by_header(name: str) -> dict[str, Any]:
    """Trust the name that a proxy writes into a header; without one nobody gets in."""

    def user(request: Request) -> str | None:
        return request.headers.get(name) or None

    return {"auth_dependency": user}


def by_login(path: Path) -> dict[str, Any]:
    """Ask for a name and a password of a file, as ``htpasswd -B`` writes it.

    Raises:
        DataError: the file cannot be read, or a line is not of that form.
    """
    hashes = _hashes(path)

    async def right(user: str, password: str) -> bool:
        known = hashes.get(user)
        # bcrypt takes a while by design, and everybody's tokens would wait.
        same = await asyncio.to_thread(bcrypt.checkpw, password.encode()[:72], known or NOBODY)
        return same and known is not None

    login: Callable[[str, str], Awaitable[bool]] = right
    return {"auth": login}


def user_of_request(page: gr.routes.App) -> Callable[[Request], str | None]:
    """Who sends a request that Gradio does not see, as Gradio would say."""

    def user(request: Request) -> str | None:
        if page.auth_dependency is not None:
            return page.auth_dependency(request) or None
        names = (f"access-token-{page.cookie_id}", f"access-token-unsecure-{page.cookie_id}")
        return next((page.tokens[token] for name in names if (token := request.cookies.get(name)) in page.tokens), None)

    return user


def user_of(request: gr.Request) -> str:
    """The name under which everything of a person is kept.

    Raises:
        gr.Error: nobody is known; the page was open when cookies were deleted.
    """
    if not request.username:
        raise gr.Error("The page does not know you any more; load it again.", print_exception=False)
    return str(request.username)


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
        raise DataError(f"{path}: names nobody; add somebody with: htpasswd -B {path} NAME")
    return hashes


class _NamesVisitors:
    """Names a browser at its first request; its cookie is as good as new each time that it loads the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/livez":
            known = scope["session"].get("user")
            if known is None or scope["path"] == "/":
                scope["session"]["user"] = known or secrets.token_hex(16)
        await self._app(scope, receive, send)
