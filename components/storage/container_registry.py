"""One repository of a container registry, such as ``ghcr.io/somebody/models``: blobs and manifests by their digest."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from components.errors import StoreError

USER_VARIABLE, PASSWORD_VARIABLE = "LORRY_OCI_USER", "LORRY_OCI_PASSWORD"
REPOSITORY_PATTERN = r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
SECONDS_TO_ANSWER = 15
# For every request but a blob's upload.
SECONDS_TO_REPLY = 60
# A registry may take a while to store what it got.
SECONDS_OF_SILENCE = 600
READING = ("GET", "HEAD")
# A registry at such a name speaks HTTP, as docker and containerd have it too.
_LOCAL = re.compile(r"^(localhost|127\.[0-9.]+)(:[0-9]+)?$")


def digest_of(content: bytes) -> str:
    """The digest that a registry knows these bytes by."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class ContainerRegistry:
    """A repository, over oras' client; user and password come from ``LORRY_OCI_USER`` and ``LORRY_OCI_PASSWORD``.

    Raises:
        StoreError: there is no such repository name, or the registry does not answer.
    """

    def __init__(self, repository: str) -> None:
        if not re.match(REPOSITORY_PATTERN, repository):
            raise StoreError(f"{repository}: not a repository of a registry; write it as registry.example/folder/name")
        self.repository = repository
        self._host, _, self._path = repository.partition("/")
        self._scheme = "http" if _LOCAL.match(self._host) else "https"
        self._client = self._connect()

    def blob_size(self, digest: str) -> int | None:
        """The size of a blob, or None where the repository does not have it."""
        answer = self._ask("HEAD", f"blobs/{digest}", accept=(200, 404))
        return int(answer.headers["Content-Length"]) if answer.status_code == 200 else None

    def put_blob(self, digest: str, size: int, open_content: Callable[[], AbstractContextManager[BinaryIO]]) -> None:
        """Upload a blob in one request; it is read as it is sent."""
        begun = self._ask("POST", "blobs/uploads/", accept=(202,))
        url = urljoin(f"{self._scheme}://{self._host}/", begun.headers["Location"])
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            # The login that has just begun the upload: what is read while it is sent cannot be sent a second time.
            **self._login_for(url),
        }
        with open_content() as content:
            at_digest = f"{url}{'&' if '?' in url else '?'}digest={digest}"
            self._ask("PUT", at_digest, accept=(201,), once=True, data=content, headers=headers)

    def put_manifest(self, content: bytes, media_type: str, tag: str | None = None) -> str:
        """Upload a manifest under its digest, and under a tag where one is given; give its digest."""
        digest = digest_of(content)
        headers = {"Content-Type": media_type}
        for name in (digest, tag) if tag else (digest,):
            self._ask("PUT", f"manifests/{name}", accept=(201,), data=content, headers=dict(headers))
        return digest

    def manifest_digest(self, tag: str) -> str | None:
        """The digest of the manifest that a tag or a digest names, or None."""
        headers = {"Accept": f"{INDEX}, {MANIFEST}"}
        answer = self._ask("GET", f"manifests/{tag}", accept=(200, 404), headers=headers)
        return digest_of(answer.content) if answer.status_code == 200 else None

    def _login_for(self, url: str) -> dict[str, str]:
        """The header with the login; none for another server, to which a registry may send an upload."""
        scheme, host = urlsplit(url)[:2]
        if self._scheme == "https" and scheme != "https":
            raise StoreError(
                f"{self.repository}: {self._host} wants the upload at {scheme}://{host}, unencrypted; correct the "
                "address that the registry gives itself (behind a proxy: X-Forwarded-Proto, or its external URL)"
            )
        if scheme != self._scheme or host.removesuffix(":443") != self._host.removesuffix(":443"):
            return {}
        return dict(self._client.auth.get_auth_header())

    def _connect(self) -> Any:
        import requests
        from oras.provider import Registry

        # oras says its errors twice: once in its log, and then in what it raises.
        logging.getLogger("oras").setLevel(logging.CRITICAL)
        try:
            answer = requests.get(f"{self._scheme}://{self._host}/v2/", timeout=SECONDS_TO_ANSWER)
        except requests.RequestException as error:
            raise StoreError(
                f"{self.repository}: {self._host} does not answer ({_short(error)}); correct it"
            ) from error
        wanted = answer.headers.get("WWW-Authenticate", "")
        if answer.status_code not in (200, 401):
            raise StoreError(f"{self.repository}: {self._host} is no container registry (HTTP {answer.status_code})")
        basic = wanted.lower().startswith("basic")
        client = Registry(self._host, insecure=self._scheme == "http", auth_backend="basic" if basic else "token")
        # oras sets no timeout, neither for its requests nor for its logins, which go through the same session.
        client.session.request = partial(client.session.request, timeout=(SECONDS_TO_ANSWER, SECONDS_TO_REPLY))
        if user := os.environ.get(USER_VARIABLE):
            client.auth.set_basic_auth(user, os.environ.get(PASSWORD_VARIABLE, ""))
        return client

    def _ask(self, method: str, path: str, *, accept: tuple[int, ...], once: bool = False, **more: Any) -> Any:
        """The answer to a request; it is sent again with a login where the registry asks for one, unless ``once``."""
        import requests

        url = path if "://" in path else f"{self._scheme}://{self._host}/v2/{self._path}/{path}"
        try:
            if once:
                answer = self._client.session.request(method, url, timeout=SECONDS_OF_SILENCE, **more)
            else:
                answer = self._with_login(method, url, more)
        except requests.RequestException as error:
            again = "try again" if method in READING else "push again"
            raise StoreError(f"{self.repository}: {self._host} broke off ({_short(error)}); {again}") from error
        except (ValueError, AttributeError):  # oras has no login for what the registry asks
            answer = None
        if answer is None or answer.status_code in (401, 403):
            raise StoreError(self._refused(method))
        if answer.status_code not in accept:
            raise StoreError(
                f"{self.repository}: {method} gave HTTP {answer.status_code} ({' '.join(answer.text.split())[:200]})"
            )
        return answer

    def _with_login(self, method: str, url: str, more: dict[str, Any]) -> Any:
        # Without oras' five tries, which sleep for minutes.
        request = self._client.do_request.__wrapped__
        answer = request(self._client, url, method, **more)
        if answer.status_code in (401, 403) and getattr(self._client.auth, "token", None):
            # A token that was given for reading does not let push, and oras asks for no other.
            self._client.auth.token = None
            answer = request(self._client, url, method, **more)
        return answer

    def _refused(self, method: str) -> str:
        right = "read" if method in READING else "push"
        user = os.environ.get(USER_VARIABLE)
        who = f"the user {user}" if user else f"requests without a user ({USER_VARIABLE} is not set)"
        return (
            f"{self.repository}: {self._host} does not let {who} {right}; set {USER_VARIABLE} and {PASSWORD_VARIABLE}"
        )


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text.partition("(Caused by ")[2] or text)[-200:]
