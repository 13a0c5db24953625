"""Errors of an endpoint described: its address, its refusals, and answers that are not the API's."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api

from components.errors import ClusterError

_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


def address_of(endpoint: str) -> str:
    """An endpoint as it is asked: without the slash at its end.

    Raises:
        ClusterError: it is no address of a server.
    """
    address = endpoint.strip()
    if not address.startswith(("http://", "https://")):
        raise ClusterError(f"--endpoint {endpoint}: not an address; it begins with http:// or https://")
    try:
        parts = urlsplit(address)
        # Asking for the port reads it.
        is_one = bool(parts.hostname) and (parts.port is None or parts.port > 0) and address.isprintable()
    except ValueError:
        is_one = False
    if not is_one or re.search(r"\s", address):
        raise ClusterError(f"--endpoint {endpoint!r}: not an address; give one such as http://127.0.0.1:8081")
    if parts.query or parts.fragment:
        whole = address.partition("#")[0].partition("?")[0].rstrip("/")
        raise ClusterError(f"--endpoint {endpoint}: the address of a page; give Kubeflow's own, such as {whole}")
    return address.rstrip("/")


def names_no_user(error: kfp_server_api.ApiException) -> bool:
    """Whether a refusal misses the user that the gateway of a Kubeflow for several users adds."""
    return "user identity" in message_of(error).lower()


def message_of(error: kfp_server_api.ApiException) -> str:
    """The text of a refusal: Kubeflow's in JSON, a proxy's in a line of text or a page."""
    try:
        body = json.loads(error.body)
        return in_one_line(str(body.get("error_message") or body.get("message") or body.get("error") or error.reason))
    except (ValueError, TypeError, AttributeError):
        pass
    text = _text(error.body)
    if "<" in text:
        title = _TITLE.search(text)
        text = title[1] if title else ""
    message = in_one_line(text)
    return message if message and message.isprintable() and "\ufffd" not in message else in_one_line(str(error.reason))


def content_of(response: Any) -> str:
    """A description of what came in place of an answer of the API."""
    text = _text(getattr(response, "data", None))
    if "<html" in text[:1000].lower() or text.lstrip().lower().startswith("<!doctype"):
        title = _TITLE.search(text)
        return f"a web page, {in_one_line(title[1])!r}" if title and title[1].strip() else "a web page"
    shown = in_one_line(text)
    return f"{shown[:60]!r}{'…' if len(shown) > 60 else ''}" if shown else "nothing"


def _text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data or ""


def in_one_line(text: str) -> str:
    """A text in one line, cut."""
    return " ".join(text.split())[:300]
