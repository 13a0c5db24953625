"""How the model server shuts down, with a recording engine."""

from __future__ import annotations

import asyncio
import logging
import signal

import pytest
import uvicorn

from components.model_server.http.server import DrainingServer


class RecordingEngine:
    """An engine that records the calls of its methods."""

    def __init__(self) -> None:
        self.idle = False
        self.calls: list[str] = []

    def drain(self) -> None:
        self.calls.append("drain")

    def stop(self) -> None:
        self.calls.append("stop")


class Interrupted(logging.Handler):
    """A signal arrives while it writes a line; a second line within that would wait for its lock for ever."""

    def __init__(self, server: DrainingServer) -> None:
        super().__init__()
        self.server = server
        self.depth = 0
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.depth += 1
        assert self.depth == 1, "a line of log within another"
        if not self.lines:
            self.server.handle_exit(signal.SIGTERM, None)
        self.lines.append(record.getMessage())
        self.depth -= 1


@pytest.fixture
def engine() -> RecordingEngine:
    return RecordingEngine()


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def server_of(engine: RecordingEngine, drain_seconds: float, clock: Clock | None = None) -> DrainingServer:
    config = uvicorn.Config(app=lambda: None)  # type: ignore[arg-type]
    server = DrainingServer(config, engine, drain_seconds, clock or Clock())  # type: ignore[arg-type]
    server.config.load()
    return server


def ticks(server: DrainingServer, n: int) -> list[bool]:
    async def some() -> list[bool]:
        return [await server.on_tick(counter) for counter in range(1, n + 1)]

    return asyncio.run(some())


def test_a_signal_in_the_middle_of_a_line_of_log_is_handled_afterwards(engine):
    server = server_of(engine, 60)
    root, handler = logging.getLogger(), Interrupted(server)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        logging.getLogger("lorry.test").info("a request")
        assert engine.calls == []
        assert ticks(server, 3) == [False] * 3
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert engine.calls == ["drain"]
    assert handler.lines[0] == "a request"
    assert "60 s" in handler.lines[1]
    assert len(handler.lines) == 2


def test_it_ends_once_nothing_runs(engine):
    server = server_of(engine, 60)
    assert ticks(server, 1) == [False]
    server.handle_exit(signal.SIGTERM, None)
    assert ticks(server, 2) == [False, False]
    engine.idle = True
    assert ticks(server, 1) == [True]
    assert engine.calls == ["drain", "stop"]


def test_a_second_signal_ends_what_runs(engine):
    server = server_of(engine, 60)
    for _ in range(2):
        server.handle_exit(signal.SIGTERM, None)
    assert ticks(server, 1) == [True]
    assert engine.calls == ["drain", "stop"]


def test_what_runs_after_the_drain_time_is_ended(engine):
    clock = Clock()
    server = server_of(engine, 40, clock)
    server.handle_exit(signal.SIGTERM, None)
    assert ticks(server, 2) == [False, False]
    clock.now += 39.9
    assert ticks(server, 1) == [False]
    clock.now += 0.1
    assert ticks(server, 1) == [True]
    assert engine.calls == ["drain", "stop"]


def test_without_a_signal_it_goes_on(engine):
    engine.idle = True
    assert ticks(server_of(engine, 0), 3) == [False] * 3
    assert engine.calls == []


def test_ctrl_c_is_raised_again_at_the_end_and_sigterm_is_not(engine):
    server = server_of(engine, 0)
    server.handle_exit(signal.SIGTERM, None)
    assert server._captured_signals == []
    server.handle_exit(signal.SIGINT, None)
    assert server._captured_signals == [signal.SIGINT]
