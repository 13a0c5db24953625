"""How the engine ends: drained, stopped, dead or stuck."""

from __future__ import annotations

import asyncio
import threading

import pytest

from components.model_server.engine.batching import STUCK_SECONDS
from components.model_server.engine.interface import UnavailableError
from tests.components.model_server.engine.echo_model import EchoModel
from tests.components.model_server.engine.engines import Clock, ask, collect, ready_engine, run, until, value

pytestmark = pytest.mark.usefixtures("without_a_vocabulary")


def test_draining_takes_nothing_new_and_finishes_what_runs_and_waits():
    async def scenario() -> None:
        model = EchoModel(n_parallel=1)
        engine = await ready_engine(model)
        go = model.begin_from_here(2)
        tasks = [asyncio.create_task(collect(engine, ask(text))) for text in ("one", "two")]
        await until(lambda: value(engine, "lorry_requests_waiting") == 1)
        engine.drain()
        assert not engine.ready
        assert engine.alive
        with pytest.raises(UnavailableError, match="the server is stopping; ask again in a moment"):
            await collect(engine, ask())
        go.release(1_000_000)
        assert [text for text, _ in await asyncio.gather(*tasks)] == ["one", "two"]
        await until(lambda: engine.idle)
        engine.close()

    run(scenario)


def test_stopping_ends_a_running_stream_with_length_and_a_waiting_one_with_an_error():
    async def scenario() -> None:
        model = EchoModel(n_parallel=1)
        engine = await ready_engine(model)
        go = model.begin_from_here(4)
        running = asyncio.create_task(collect(engine, ask("x" * 30)))
        await until(lambda: len(model.context.steps) == 4)
        waiting = asyncio.create_task(collect(engine, ask("two")))
        await until(lambda: value(engine, "lorry_requests_waiting") == 1)
        engine.stop()
        go.release(2)
        text, last = await running
        assert (last.finish_reason, text) == ("length", "x" * last.completion_tokens)
        with pytest.raises(UnavailableError, match="the server is stopping"):
            await waiting
        closing = threading.Thread(target=engine.close)
        closing.start()
        closing.join(10)
        assert not engine.alive
        with pytest.raises(UnavailableError):
            await collect(engine, ask())

    run(scenario)


def test_an_engine_whose_thread_died_says_so_and_lets_nobody_wait(monkeypatch):
    async def scenario() -> None:
        engine = await ready_engine(EchoModel())
        monkeypatch.setattr(engine._scheduler, "step", lambda: 1 // 0)
        assert engine.alive
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        with pytest.raises(UnavailableError):
            await collect(engine, ask())
        await until(lambda: not engine.alive)
        assert not engine.ready

    run(scenario)


def test_an_engine_that_hangs_is_not_alive():
    async def scenario() -> None:
        model, clock = EchoModel(), Clock()
        engine = await ready_engine(model, clock=clock)
        go = model.begin_from_here()
        running = asyncio.create_task(collect(engine, ask("one")))
        await until(lambda: engine._scheduler.n_running == 1)
        clock.seconds += STUCK_SECONDS - 1
        assert engine.alive
        clock.seconds += 1
        assert not engine.alive
        go.release(1_000_000)
        await running
        engine.close()

    run(scenario)
