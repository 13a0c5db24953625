"""How the model server ends, with a stand-in for its engine."""

from __future__ import annotations

import asyncio
import logging
import signal

import pytest
import uvicorn

from components.model_server.http.server import DrainingServer


class StandIn:
    """An engine that notes what it is told."""

    def __init__(self) -> None:
        self.idle = False
        self.told: list[str] = []

    def drain(self) -> None:
        self.told.append("drain")

    def stop(self) -> None:
        self.told.append("stop")


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
def engine() -> StandIn:
    return StandIn()


def server_of(engine: StandIn, drain_seconds: float) -> DrainingServer:
    server = DrainingServer(uvicorn.Config(app=lambda: None), engine, drain_seconds)  # type: ignore[arg-type]
    server.config.load()
    return server


def ticks(server: DrainingServer, n: int) -> list[bool]:
    async def some() -> list[bool]:
        return [await server.on_tick(counter) for counter in range(1, n + 1)]

    return asyncio.run(some())


def test_a_signal_in_the_middle_of_a_line_of_log_is_heard_afterwards(engine):
    server = server_of(engine, 60)
    root, handler = logging.getLogger(), Interrupted(server)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        logging.getLogger("lorry.test").info("a request")
        assert engine.told == []
        assert ticks(server, 3) == [False] * 3
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert engine.told == ["drain"]
    assert handler.lines == ["a request", "draining: nothing new is taken, what runs has 60 s"]


def test_it_ends_once_nothing_runs(engine):
    server = server_of(engine, 60)
    assert ticks(server, 1) == [False]
    server.handle_exit(signal.SIGTERM, None)
    assert ticks(server, 2) == [False, False]
    engine.idle = True
    assert ticks(server, 1) == [True]
    assert engine.told == ["drain", "stop"]


def test_a_second_signal_or_the_limit_ends_what_runs(engine):
    server = server_of(engine, 60)
    for _ in range(2):
        server.handle_exit(signal.SIGTERM, None)
    assert ticks(server, 1) == [True]
    late = server_of(engine, 0)
    late.handle_exit(signal.SIGTERM, None)
    assert ticks(late, 1) == [True]
    assert engine.told == ["drain", "stop", "drain", "stop"]
