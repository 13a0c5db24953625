"""A log that nobody reads must not stop whoever writes it."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from components.model_server.http import access_log
from components.model_server.http.access_log import nonblocking_log
from tests.conftest import ROOT, answers, free_port

log = logging.getLogger("lorry.test")
PIPE_BYTES = 1 << 16


class Asleep(logging.Handler):
    """Writes nothing until it is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.awake, self.holds_a_line = threading.Event(), threading.Event()
        self.lines: list[str] = []
        # Set once so many lines are written.
        self.n_awaited, self.all_came = 0, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.holds_a_line.set()
        self.awake.wait(60)
        self.lines.append(record.getMessage())
        if len(self.lines) == self.n_awaited:
            self.all_came.set()


@pytest.fixture
def asleep():
    """The root logger's only handler."""
    root, handler = logging.getLogger(), Asleep()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    yield handler
    handler.awake.set()
    root.handlers[:] = before
    root.setLevel(level)


def test_lines_are_dropped_and_counted_while_nobody_reads(asleep):
    with nonblocking_log(n_lines=5):
        log.info("held")
        assert asleep.holds_a_line.wait(60)
        for number in range(20):
            log.info("line %d", number)
        asleep.n_awaited = 6
        asleep.awake.set()
        assert asleep.all_came.wait(60)
        log.info("after")
    kept = [f"line {number}" for number in range(5)]
    assert asleep.lines == ["held", *kept, "15 lines of log were dropped: nobody read them", "after"]


def test_afterwards_lines_are_written_as_before(asleep):
    asleep.awake.set()
    with nonblocking_log():
        log.info("within")
    log.info("after")
    assert asleep.lines == ["within", "after"]


class ExitedError(Exception):
    """In place of the end of the process."""


@pytest.mark.parametrize(
    ("error", "exit_code"), [(None, 0), (KeyboardInterrupt(), 130), (ValueError("x"), 1), (SystemExit(3), 1)]
)
def test_the_process_exits_if_nobody_reads_at_the_end(asleep, monkeypatch, error, exit_code):
    def exit_process(code: int) -> None:
        raise ExitedError(code)

    monkeypatch.setattr(access_log, "LOG_FLUSH_SECONDS", 0)
    monkeypatch.setattr("os._exit", exit_process)

    def write_a_line_and_end() -> None:
        log.info("held")
        assert asleep.holds_a_line.wait(60)
        if error is not None:
            raise error

    with pytest.raises(ExitedError, match=f"^{exit_code}$"), nonblocking_log():
        write_a_line_and_end()


def test_the_handlers_are_as_before_after_an_error(asleep):
    asleep.awake.set()
    before = logging.getLogger().handlers[:]
    with pytest.raises(ValueError, match="x"), nonblocking_log():
        raise ValueError("x")
    assert logging.getLogger().handlers == before
    assert asleep in before


def test_a_server_whose_log_nobody_reads_keeps_serving_and_exits_with_0(tiny_run):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "pipelines.cli", "serve", str(tiny_run.model), "--port", str(port)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        while not answers(f"{address}/readyz"):
            assert child.poll() is None
            time.sleep(0.05)
        with httpx.Client(base_url=address, timeout=30) as client:
            for _ in range(2 * PIPE_BYTES // 100):  # a line has more than 100 bytes
                assert client.get("/v1/nothing").status_code == 404
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(b"no HTTP at all\r\n\r\n")
                assert stranger.recv(100).startswith(b"HTTP/1.1 400")
            assert client.get("/livez").status_code == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.communicate()
