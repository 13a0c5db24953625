"""Users: known by a signed cookie, a login, or a proxy's header."""

from __future__ import annotations

import asyncio

import bcrypt
import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from components.chat.web.identity import COOKIE, by_cookie, by_header, by_login, secret_of
from components.errors import DataError


def page(secret: str) -> FastAPI:
    """An application that returns the user of a request."""
    app = FastAPI()
    known = by_cookie(app, secret)

    async def me(request: Request) -> str | None:
        return known["auth_dependency"](request)

    for path in ("/", "/deep", "/livez"):
        app.add_api_route(path, me)
    return app


def test_a_cookie_is_signed_valid_after_a_restart_and_different_for_each_browser(tmp_path):
    first, second = (TestClient(page(secret_of(tmp_path))) for _ in range(2))
    ann = first.get("/").json()
    assert ann
    assert first.get("/").json() == ann
    assert second.get("/").json() != ann
    after = TestClient(page(secret_of(tmp_path)), cookies={COOKIE: first.cookies[COOKIE]})
    assert after.get("/").json() == ann
    forged = TestClient(page(secret_of(tmp_path)), cookies={COOKIE: first.cookies[COOKIE][:-4] + "AAAA"})
    assert forged.get("/").json() != ann


def test_a_cookie_is_set_by_the_first_request_and_renewed_by_the_page_but_never_by_a_probe():
    client = TestClient(page("a secret of the test"))
    assert client.get("/livez").json() is None
    assert COOKIE not in client.cookies
    assert client.get("/deep").json()
    assert "set-cookie" in client.get("/").headers
    assert "samesite=lax" in client.get("/").headers["set-cookie"].lower()


def test_a_secret_is_made_once_and_readable_by_its_owner_only(tmp_path):
    folder = tmp_path / "new"
    secret = secret_of(folder)
    assert len(secret) >= 32
    assert secret_of(folder) == secret
    assert secret_of(tmp_path / "other") != secret
    assert (folder / "cookie-secret").stat().st_mode & 0o777 == 0o600


def test_a_secret_of_the_environment_needs_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LORRY_CHAT_SECRET", "given")
    assert secret_of(tmp_path) == "given"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "short", " " * 40])
def test_a_secret_that_can_be_guessed_is_refused(tmp_path, text):
    (tmp_path / "cookie-secret").write_text(text)
    with pytest.raises(DataError, match=r"cookie-secret: is too short for a secret; delete it"):
        secret_of(tmp_path)


def test_a_header_names_the_user_and_a_request_without_it_is_nobodys():
    user = by_header("X-Forwarded-User")["auth_dependency"]

    def request(*headers: tuple[bytes, bytes]) -> Request:
        return Request({"type": "http", "headers": list(headers)})

    assert user(request((b"x-forwarded-user", b"ann"))) == "ann"
    assert user(request((b"x-forwarded-user", b""))) is None
    assert user(request()) is None


def test_a_login_checks_the_password_of_the_file(tmp_path):
    path = tmp_path / "users"
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    path.write_text(f"# people\n\nann:{hashed}\n")
    login = by_login(path)["auth"]
    tried = [("ann", "right"), ("ann", "wrong"), ("bob", "right"), ("ann", "x" * 200), ("", ""), ("bob", "nobody")]
    assert [asyncio.run(login(*pair)) for pair in tried] == [True, False, False, False, False, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"users: cannot be read \(No such file or directory\); make it with: htpasswd -B -c .*users NAME"),
        ("# nobody\n", "users: names no user; add one with: htpasswd -B"),
        ("ann:$apr1$old\n", "users: line 1 is not NAME:BCRYPT-HASH; make it with: htpasswd -B"),
        ("\nann\n", "line 2 is not NAME"),
        (":$2y$05$x\n", "line 1 is not NAME"),
    ],
)
def test_what_is_wrong_with_a_users_file_is_named_by_line(tmp_path, text, message):
    if text is not None:
        (tmp_path / "users").write_text(text)
    with pytest.raises(DataError, match=message):
        by_login(tmp_path / "users")
