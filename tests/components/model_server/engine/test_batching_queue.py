"""Requests that wait, give up or take too long: bounds, shares of API keys, and slots that become free."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from components.model_server.engine.interface import QueueFullError, TimedOutError
from tests.components.model_server.engine.echo_model import EchoModel
from tests.components.model_server.engine.engines import Clock, ask, collect, ready_engine, run, until, value

pytestmark = pytest.mark.usefixtures("without_a_vocabulary")


def test_requests_past_the_bound_are_refused_at_once_and_the_others_answered():
    async def scenario() -> None:
        model = EchoModel(n_parallel=1)
        engine = await ready_engine(model, max_waiting=2)
        go = model.begin_from_here()
        running = asyncio.create_task(collect(engine, ask("one")))
        await until(lambda: engine._scheduler.n_running == 1)
        waiting = [asyncio.create_task(collect(engine, ask(text))) for text in ("two", "three")]
        await until(lambda: value(engine, "lorry_requests_waiting") == 2)
        with pytest.raises(QueueFullError, match="2 requests are waiting already; try again later"):
            await collect(engine, ask())
        assert value(engine, "lorry_requests_rejected_total", reason="queue_full") == 1
        go.release(1_000_000)
        answers = await asyncio.gather(running, *waiting)
        assert [text for text, _ in answers] == ["one", "two", "three"]
        engine.close()

    run(scenario)


def test_one_keys_flood_leaves_turns_and_capacity_to_another():
    async def scenario() -> None:
        model = EchoModel(n_parallel=1)
        engine = await ready_engine(model, max_waiting=8, n_keys=2)
        go = model.begin_from_here()
        ended: list[str] = []

        async def one(key: str, text: str) -> None:
            await collect(engine, ask(text, key=key))
            ended.append(text)

        tasks = [asyncio.create_task(one("a", "a0"))]
        await until(lambda: engine._scheduler.n_running == 1)
        tasks += [asyncio.create_task(one("a", f"a{n}")) for n in (1, 2, 3, 4)]
        await until(lambda: value(engine, "lorry_requests_waiting") == 4)
        with pytest.raises(QueueFullError):
            await collect(engine, ask(key="a"))
        tasks.append(asyncio.create_task(one("b", "b0")))
        await until(lambda: value(engine, "lorry_requests_waiting") == 5)
        go.release(1_000_000)
        await asyncio.gather(*tasks)
        assert ended.index("b0") <= 2
        engine.close()

    run(scenario)


def test_one_keys_long_answers_leave_a_slot_to_another_key():
    async def scenario() -> None:
        model = EchoModel(n_parallel=4)
        engine = await ready_engine(model, n_keys=2)
        go = model.begin_from_here()
        running = engine._scheduler.n_running_by_key

        async def step_until(condition: Any) -> None:
            await until(lambda: go.release() or condition())

        tasks = [asyncio.create_task(collect(engine, ask(f"{n}" * 90, key="a"))) for n in range(5)]
        await step_until(lambda: running() == {"a": 3} and value(engine, "lorry_requests_waiting") == 2)
        tasks.append(asyncio.create_task(collect(engine, ask("b" * 90, key="b"))))
        await step_until(lambda: running() == {"a": 3, "b": 1})
        go.release(1_000_000)
        assert [text for text, _ in await asyncio.gather(*tasks)] == [*(f"{n}" * 90 for n in range(5)), "b" * 90]
        engine.close()

    run(scenario)


@pytest.mark.parametrize("steps", [0, 3, 12])
def test_a_closed_stream_frees_its_slot_within_a_step_also_during_prefill(steps):
    async def scenario() -> None:
        model = EchoModel(n_parallel=1, n_ctx=512, n_batch=16)
        engine = await ready_engine(model)
        go = model.begin_from_here(steps)
        stream = asyncio.create_task(collect(engine, ask("x" * 100)))
        await until(lambda: engine._scheduler.n_running == 1 and len(model.context.steps) == steps)
        stream.cancel()
        await asyncio.wait({stream})
        go.release()  # the step that it is in
        await until(lambda: engine.idle and engine._scheduler.n_running == 0)
        assert len(model.context.steps) <= steps + 1
        assert engine._slots.n_free == 1
        assert value(engine, "lorry_requests_cancelled_total") == 1
        go.release(1_000_000)
        assert (await collect(engine, ask("x" * 100)))[0] == "x" * 100
        engine.close()

    run(scenario)


def test_one_that_waits_and_goes_away_is_forgotten():
    async def scenario() -> None:
        model = EchoModel(n_parallel=1)
        engine = await ready_engine(model)
        go = model.begin_from_here()
        running = asyncio.create_task(collect(engine, ask("one")))
        await until(lambda: engine._scheduler.n_running == 1)
        waiting = asyncio.create_task(collect(engine, ask("two")))
        await until(lambda: value(engine, "lorry_requests_waiting") == 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert value(engine, "lorry_requests_waiting") == 0
        go.release(1_000_000)
        assert (await running)[0] == "one"
        engine.close()

    run(scenario)


def test_a_deadline_ends_an_answer_with_length_and_a_waiting_request_with_an_error():
    async def scenario() -> None:
        model, clock = EchoModel(n_parallel=1), Clock()
        engine = await ready_engine(model, clock=clock, max_seconds=60)
        go = model.begin_from_here(3)
        running = asyncio.create_task(collect(engine, ask("x" * 20)))
        await until(lambda: len(model.context.steps) == 3)
        waiting = asyncio.create_task(collect(engine, ask("two")))
        await until(lambda: value(engine, "lorry_requests_waiting") == 1)
        clock.seconds += 60
        go.release(1_000_000)
        text, last = await running
        assert (last.finish_reason, text) == ("length", "x" * last.completion_tokens)
        with pytest.raises(TimedOutError, match=r"no slot was free within 60 s; ask again later"):
            await waiting
        assert value(engine, "lorry_requests_timed_out_total") == 2
        engine.close()

    run(scenario)
