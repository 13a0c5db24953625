"""A container registry on this machine: Debian's docker-registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import httpx
import pytest

from tests.conftest import free_port

USER, PASSWORD = "somebody", "written-by-the-test"
PROGRAM = shutil.which("docker-registry")


@contextmanager
def registry(folder: Path, *, login: bool = False) -> Iterator[str]:
    """The host of a registry that keeps what it gets in ``folder``; with ``login`` it asks for USER and PASSWORD."""
    if PROGRAM is None and not os.environ.get("CI"):
        pytest.skip("no registry here; install Debian's package docker-registry")
    assert PROGRAM is not None, "CI must install Debian's package docker-registry"
    host = f"127.0.0.1:{free_port()}"
    passwords = folder / "passwords"
    passwords.write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    auth = f"auth: {{htpasswd: {{realm: test, path: {passwords}}}}}\n" if login else ""
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n{auth}"
        f"http: {{addr: '{host}', secret: test}}\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
    )
    child = subprocess.Popen([PROGRAM, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(host, child)
        yield host
    finally:
        child.terminate()
        child.wait(timeout=30)


def _wait_for(host: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert child.poll() is None, "the registry has ended"
        try:
            if httpx.get(f"http://{host}/v2/").status_code in (200, 401):
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError("the registry does not answer")
