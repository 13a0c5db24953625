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

    def emit(self, record: logging.LogRecord) -> None:
        self.holds_a_line.set()
        self.awake.wait(60)
        self.lines.append(record.getMessage())


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
        asleep.awake.set()
        while len(asleep.lines) < 6:
            time.sleep(0.01)
        log.info("after")
    kept = [f"line {number}" for number in range(5)]
    assert asleep.lines == ["held", *kept, "15 lines of log were dropped: nobody read them", "after"]


def test_afterwards_lines_are_written_as_before(asleep):
    asleep.awake.set()
    with nonblocking_log():
        log.info("within")
    log.info("after")
    assert asleep.lines == ["within", "after"]


def test_a_server_whose_log_nobody_reads_goes_on_and_ends_well(tiny_run):
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
