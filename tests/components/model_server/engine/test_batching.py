"""What the engine answers, with a stand-in for the model whose KV cache shows every mistake."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from itertools import pairwise

import pytest

from components.artifacts.contracts import Message
from components.errors import ModelError
from components.model_server.engine import batching, slots
from components.model_server.engine.interface import Delta, PromptTooLongError, Request
from tests.components.model_server.engine.echo_model import EchoModel
from tests.components.model_server.engine.engines import ask, collect, ready_engine, run, until, value

pytestmark = pytest.mark.usefixtures("without_a_vocabulary")


def test_an_answer_ends_with_stop_and_its_counts():
    async def scenario() -> None:
        model = EchoModel()
        engine = await ready_engine(model)
        text, last = await collect(engine, ask("abc"))
        assert (text, last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("abc", "stop", 5, 3)
        text, last = await collect(engine, ask("abcdef", max_tokens=3))
        assert (text, last.finish_reason, last.completion_tokens) == ("abc", "length", 3)
        text, last = await collect(engine, Request(prompt="a text"))
        assert (text, last.finish_reason) == ("a text", "stop")
        engine.close()
        assert model.closed
        assert all(sampler.closed for sampler in model.samplers)

    run(scenario)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_request_whose_prompt_takes_long_to_render_hears_that_it_is_worked_on(monkeypatch, leaves):
    monkeypatch.setattr(batching, "HEARTBEAT_SECONDS", 0.02)

    async def scenario() -> None:
        model = EchoModel()
        engine = await ready_engine(model, max_waiting=1)
        rendered, render = threading.Event(), model.prompt
        monkeypatch.setattr(model, "prompt", lambda *given, **named: rendered.wait(10) and render(*given, **named))
        stream = engine.stream(ask("abc"))
        assert [await anext(stream) for _ in range(3)] == [Delta("")] * 3
        if leaves:
            await stream.aclose()
            rendered.set()
            # Its reservation is free again.
            assert (await collect(engine, ask("abc")))[0] == "abc"
        else:
            rendered.set()
            assert "".join([delta.text async for delta in stream]) == "abc"
        engine.close()

    run(scenario)


def test_the_context_bounds_an_answer_and_a_prompt():
    async def scenario() -> None:
        engine = await ready_engine(EchoModel(n_ctx=64))
        text, last = await collect(engine, ask("x" * 40))
        assert (last.finish_reason, last.completion_tokens, text) == ("length", 22, "x" * 22)
        with pytest.raises(
            PromptTooLongError, match="This model's maximum context length is 64 tokens, and the prompt has 64; shorten"
        ):
            await collect(engine, ask("x" * 62))
        assert value(engine, "lorry_requests_rejected_total", reason="prompt_too_long") == 1
        engine.close()

    run(scenario)


def test_every_running_answer_gets_a_token_between_two_chunks_of_a_long_prompt():
    async def scenario() -> None:
        model = EchoModel(n_ctx=1024, n_batch=16)
        engine = await ready_engine(model)
        go = model.begin_from_here(3)
        streams = [asyncio.create_task(collect(engine, ask(letter * 40))) for letter in "abc"]
        await until(lambda: len(model.context.steps) == 3)
        newcomer = asyncio.create_task(collect(engine, ask("n" * 200)))
        go.release(1_000_000)
        answers = await asyncio.gather(*streams, newcomer)
        assert [text for text, _ in answers] == ["a" * 40, "b" * 40, "c" * 40, "n" * 200]
        chunks = [n for n, step in enumerate(model.context.steps) if len(step[0].tokens) > 1]
        long = [n for n in chunks if seq_id_of(model, n) == seq_id_of(model, chunks[-1])]
        for before, after in pairwise(long[3:]):
            between = model.context.steps[before + 1 : after]
            assert {item.seq_id for step in between for item in step} >= running_then(model, before), "a stream waited"
        engine.close()

    def seq_id_of(model: EchoModel, n: int) -> int:
        return model.context.steps[n][0].seq_id

    def running_then(model: EchoModel, n: int) -> set[int]:
        """Sequences that decode a token both before and after step ``n``."""
        decoded = [
            {item.seq_id for step in steps for item in step if len(item.tokens) == 1}
            for steps in (model.context.steps[:n], model.context.steps[n + 1 :])
        ]
        return decoded[0] & decoded[1] - {seq_id_of(model, n)}

    run(scenario)


def test_a_prompt_that_begins_like_a_cached_one_computes_only_what_is_new():
    async def scenario() -> None:
        model = EchoModel()
        engine = await ready_engine(model)
        system = "You are a helpful assistant of few words."
        await collect(engine, ask("first", system=system))
        model.context.steps.clear()
        text, last = await collect(engine, ask("second", system=system))
        n_shared = len(system) + 3  # its two marks, and the one that begins the next turn
        assert (text, last.cached_tokens) == ("second", n_shared)
        computed = sum(
            len(item.tokens) for step in model.context.steps for item in step if item.pos < last.prompt_tokens
        )
        assert computed == last.prompt_tokens - n_shared
        assert value(engine, "lorry_prefix_hits_total") == 1
        engine.close()

    run(scenario)


def test_the_next_turn_of_a_chat_goes_on_where_the_last_one_ended():
    async def scenario() -> None:
        engine = await ready_engine(EchoModel())
        first = [Message(role="user", content="one two three")]
        text, _ = await collect(engine, Request(prompt=first))
        turns = [*first, Message(role="assistant", content=text), Message(role="user", content="four")]
        again, last = await collect(engine, Request(prompt=turns))
        assert again == "four"
        assert last.cached_tokens >= len("one two three") + 2
        engine.close()

    run(scenario)


def interleaved(n_requests: int, seed: int) -> list[tuple[str, str]]:
    """What was asked, and what came back: many requests at once that share beginnings, some given up on the way."""
    draw = random.Random(seed)
    systems = ["", "Repeat.", "Repeat what the user says, and nothing else.", "Repeat what the user says, but softly."]

    async def scenario() -> list[tuple[str, str]]:
        model = EchoModel(n_parallel=4, n_batch=16)
        engine = await ready_engine(model, max_waiting=n_requests, prefix_cache_bytes=2_000)
        answers = []

        async def one(number: int) -> None:
            secret = f"secret {number} " + "abcdefgh"[: draw.randrange(8)] * draw.randrange(6)
            request = ask(secret, system=draw.choice(systems))
            if draw.random() < 0.2:
                stream = engine.stream(request)
                async for _ in stream:
                    if draw.random() < 0.3:
                        break
                await stream.aclose()
            else:
                answers.append((secret, (await collect(engine, request))[0]))

        await asyncio.gather(*map(one, range(n_requests)))
        await until(lambda: engine.idle and engine._scheduler.n_running == 0)
        assert engine._slots.n_free == 4
        assert engine._prefix_cache.n_bytes <= 2_000
        engine.close()
        return answers

    return asyncio.run(scenario())


def test_interleaved_requests_never_say_anothers_word():
    answers = interleaved(400, seed=5)
    assert len(answers) > 250
    assert [answered for asked, answered in answers] == [asked for asked, answered in answers]


def test_the_same_requests_mix_up_words_when_the_prefix_key_is_broken(monkeypatch):
    """What the test above would miss, it would miss in silence."""
    monkeypatch.setattr(slots, "common_prefix_length", lambda one, other: min(len(one), len(other)))
    answers = interleaved(400, seed=5)
    assert any(asked != answered for asked, answered in answers)


def test_a_batch_that_llama_cannot_compute_fails_alone_and_its_slot_is_clean():
    async def scenario() -> None:
        model = EchoModel(n_parallel=2)
        engine = await ready_engine(model)
        model.context.broken = True
        with pytest.raises(ModelError, match=r"cannot compute 1 tokens \(status -3\); ask again"):
            await collect(engine, ask("one"))
        model.context.broken = False
        assert (await collect(engine, ask("one")))[0] == "one"
        assert engine._slots.n_free == 2
        engine.close()

    run(scenario)


def test_a_failing_request_reaches_its_client_and_the_others_go_on(monkeypatch):
    async def scenario() -> None:
        model = EchoModel()
        engine = await ready_engine(model)

        def piece(token: int) -> bytes:
            return chr(token).encode() if token != ord("!") else bytes(1 // 0)

        monkeypatch.setattr(model, "piece", piece)
        bad, good = asyncio.create_task(collect(engine, ask("ab!c"))), asyncio.create_task(collect(engine, ask("good")))
        with pytest.raises(ZeroDivisionError):
            await bad
        assert (await good)[0] == "good"
        assert value(engine, "lorry_requests_finished_total", reason="error") == 1
        engine.close()

    run(scenario)


def test_a_model_that_removes_all_or_nothing_shares_nothing_and_answers_right():
    async def scenario() -> None:
        model = EchoModel(n_parallel=1)
        model.context.removes_all_or_nothing = True
        engine = await ready_engine(model)
        for text in ("first", "second", "second"):
            answered, last = await collect(engine, ask(text, system="The same beginning."))
            assert (answered, last.cached_tokens) == (text, 0)
        engine.close()

    run(scenario)


def test_a_token_is_counted_once_and_times_are_observed():
    async def scenario() -> None:
        engine = await ready_engine(EchoModel())
        started = time.monotonic()
        await asyncio.gather(*(collect(engine, ask("abcd")) for _ in range(3)))
        assert value(engine, "lorry_completion_tokens_total") == 12
        assert value(engine, "lorry_time_to_first_token_seconds_count") == 3
        assert value(engine, "lorry_inter_token_latency_seconds_count") == 12  # the end is a token too
        assert value(engine, "lorry_queue_seconds_sum") <= 3 * (time.monotonic() - started)
        kinds = [value(engine, "lorry_prompt_tokens_total", kind=kind) for kind in ("computed", "cached")]
        assert sum(kinds) == 3 * 6
        engine.close()

    run(scenario)
