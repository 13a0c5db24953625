"""Serving what the demo made: model server and chat page as two processes, until Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
from rich.console import Console

from components.errors import LorryError
from components.runtime.interrupts import interrupt_on_sigterm
from components.runtime.parent_death import END_WITH_STDIN
from components.runtime.sockets import url_of

SECONDS_TO_START = 120.0
SECONDS_TO_STOP = 10.0


def serve_until_stopped(
    console: Console, model: Path, workdir: Path, host: str, server_port: int, chat_port: int
) -> None:
    """Start both, print the chat's address once it answers, and stop both on Ctrl-C or SIGTERM.

    Raises:
        LorryError: one of them ended by itself.
    """
    server_url, chat_url = url_of(host, server_port), url_of(host, chat_port)
    children: dict[str, subprocess.Popen[bytes]] = {}
    with interrupt_on_sigterm():
        try:
            children["lorry serve"] = _start("serve", str(model), "--host", host, "--port", str(server_port))
            children["lorry chat"] = _start(
                "chat", "--server", f"{server_url}/v1", "--host", host, "--port", str(chat_port),
                "--data-dir", str(workdir / "chat"),
            )  # fmt: skip
            _wait_until_up(children, [f"{server_url}/readyz", chat_url])
            console.print(
                f"\nChat with it: [bold]{chat_url}[/bold]   (API: {server_url}/v1; Ctrl-C stops both)", soft_wrap=True
            )
            while True:
                _require_alive(children)
                time.sleep(0.5)
        except KeyboardInterrupt:
            console.print("stopping")
        finally:
            for child in children.values():
                _stop(child)


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C reaches this process, which then stops the children in order. Should this process
    # be killed, the pipe on their standard input closes, and they end by themselves.
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, END_WITH_STDIN: "1"},
    )


def _wait_until_up(children: dict[str, subprocess.Popen[bytes]], urls: list[str]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    for url in urls:
        while not _answers(url):
            _require_alive(children)
            if time.monotonic() > deadline:
                raise LorryError(f"{url} does not answer after {SECONDS_TO_START:.0f} s; see the messages above")
            time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _require_alive(children: dict[str, subprocess.Popen[bytes]]) -> None:
    for name, child in children.items():
        if child.poll() is not None:
            raise LorryError(f"{name} ended with exit code {child.returncode}; see its message above")


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
