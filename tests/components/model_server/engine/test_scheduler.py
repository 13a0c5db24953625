"""Continuous batching step by step: what is computed when, and how sequences end. No thread, no clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from components.artifacts.contracts import Message
from components.errors import LorryError
from components.model_server.engine.decode_batcher import DecodeBatcher
from components.model_server.engine.interface import Delta, Request, TimedOutError, UnavailableError
from components.model_server.engine.metrics import Metrics
from components.model_server.engine.prefill_budget import PrefillBudget
from components.model_server.engine.prefix_cache import PrefixCache
from components.model_server.engine.scheduler import CHUNKS_BETWEEN_TURNS_OF_THE_OLDEST, Scheduler
from components.model_server.engine.sequence import TokenSequence
from components.model_server.engine.slots import Slots
from components.model_server.engine.thread_tuner import ThreadTuner
from tests.components.model_server.engine.echo_model import EchoModel
from tests.components.model_server.engine.engines import Clock

CHUNK = 16


class Running:
    """A scheduler whose chunks have 16 tokens while others decode, and what its sequences sent."""

    def __init__(self, *, n_parallel: int = 4, n_ctx: int = 256) -> None:
        self.model, self.clock, self.metrics = EchoModel(n_parallel=n_parallel, n_ctx=n_ctx), Clock(), Metrics()
        self.slots = Slots(self.model.context, PrefixCache(0))
        # The clock stands still, so that every size seems to cost nothing: the budget is set here.
        self.budget = PrefillBudget(itl_seconds=0.1, idle_itl_seconds=0.1, n_batch=CHUNK)
        threads = ThreadTuner(1, self.model.context.set_n_threads, waited=lambda: None)
        self.scheduler = Scheduler(
            self.model, self.slots, self.budget, DecodeBatcher(), threads, self.metrics,  # type: ignore[arg-type]
            clock=self.clock,
        )  # fmt: skip
        self.sent: dict[str, list[Delta | Exception]] = {}

    def admit(self, text: str, *, max_tokens: int = 100, seconds: float = 60, **settings: Any) -> TokenSequence:
        """A sequence whose answer is ``text``."""
        request = Request(prompt=[Message(role="user", content=text)], **settings)
        prompt = self.model.tokenize(self.model.prompt(request.prompt), special=True)  # type: ignore[arg-type]
        sent = self.sent.setdefault(text, [])
        sequence = TokenSequence(
            request, prompt, max_tokens, self.clock.seconds, self.clock.seconds + seconds, sent.append
        )
        self.scheduler.admit(sequence)
        return sequence

    def steps(self) -> list[list[tuple[int, int]]]:
        """Of each step's batches: which sequence had how many tokens."""
        return [[(item.seq_id, len(item.tokens)) for item in step] for step in self.model.context.steps]

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Step until all is done."""
        for _ in range(500):
            if self.scheduler.n_running == 0 or (until is not None and until()):
                return
            self.scheduler.step()
        raise AssertionError("it never ends")

    def text(self, of: str) -> str:
        """What was sent of an answer."""
        return "".join(delta.text for delta in self.sent[of] if isinstance(delta, Delta))

    def last(self, of: str) -> Any:
        """Its last delta, or its error."""
        return self.sent[of][-1]

    def count(self, name: str, **labels: str) -> float:
        """A counter's value."""
        return self.metrics.registry.get_sample_value(f"lorry_{name}_total", labels) or 0.0


def test_a_prompt_is_computed_in_chunks_and_then_a_token_a_step():
    running = Running()
    running.admit("x" * 40)
    running.run()
    assert [step for (step,) in running.steps()][:3] == [(0, 16), (0, 16), (0, 10)]
    assert running.steps()[3:] == [[(0, 1)]] * 40
    assert running.text("x" * 40) == "x" * 40
    last = running.last("x" * 40)
    assert (last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("stop", 42, 40)


def test_only_the_last_token_of_a_prompt_has_logits():
    running = Running()
    running.admit("x" * 40)
    running.run(until=lambda: len(running.model.context.steps) >= 3)
    assert [item.logits.count(True) for (item,) in running.model.context.steps[:3]] == [0, 0, 1]
    assert running.model.context.steps[2][0].logits[-1]


def test_running_answers_share_a_batch_in_the_order_of_their_slots():
    running = Running()
    for text in ("aaaa", "bbbb", "cccc"):
        running.admit(text)
    running.run(until=lambda: len(running.scheduler._decoding) == 3)
    running.model.context.steps.clear()
    running.scheduler.step()
    assert running.steps() == [[(0, 1), (1, 1), (2, 1)]]


def test_the_shortest_prompt_goes_first_and_now_and_then_the_oldest():
    running = Running()
    long = running.admit("l" * 150)
    short = [running.admit(letter * 30) for letter in "ab"]
    order = []
    for _ in range(CHUNKS_BETWEEN_TURNS_OF_THE_OLDEST):
        order.append(running.scheduler._next_to_prefill())
    assert order == [short[0]] * (CHUNKS_BETWEEN_TURNS_OF_THE_OLDEST - 1) + [long]


def test_no_more_are_admitted_than_there_are_slots():
    running = Running(n_parallel=2)
    assert running.scheduler.can_admit
    running.admit("a", key="one")
    assert running.scheduler.can_admit
    running.admit("b", key="two")
    assert not running.scheduler.can_admit, "those that have no slot yet count"
    assert running.scheduler.n_running_by_key() == {"one": 1, "two": 1}
    running.run()
    assert (running.slots.n_free, running.scheduler.n_running) == (2, 0)
    assert running.scheduler.can_admit


@pytest.mark.parametrize(("max_tokens", "text"), [(0, ""), (1, "h"), (5, "hello")])
def test_an_answer_ends_at_its_limit(max_tokens, text):
    running = Running()
    running.admit("hello", max_tokens=max_tokens)
    running.run()
    last = running.last("hello")
    assert (running.text("hello"), last.finish_reason, last.completion_tokens) == (text, "length", max_tokens)
    assert running.count("requests_finished", reason="length") == 1


def test_a_stop_string_ends_an_answer_before_itself():
    running = Running()
    running.admit("one two three", stop=[" t"])
    running.run()
    assert (running.text("one two three"), running.last("one two three").finish_reason) == ("one", "stop")


def test_special_tokens_of_a_tool_call_have_text():
    running = Running()
    sequence = running.admit("a!b")
    sequence.special_texts = {ord("!"): "<tool_call>"}
    running.run()
    assert running.text("a!b") == "a<tool_call>b"


def test_an_echo_begins_with_the_prompt():
    running = Running()
    running.admit("hi", echo=True, max_tokens=1)
    running.run()
    assert running.text("hi") == "\x01hi\x02h"


def test_a_deadline_ends_a_prompt_with_an_error_and_an_answer_with_what_it_has():
    running = Running()
    running.admit("answered", seconds=60)
    running.run(until=lambda: running.text("answered") == "ans")
    running.admit("p" * 100, seconds=30)
    running.scheduler.step()
    running.clock.seconds += 60
    running.scheduler.step()
    assert isinstance(running.last("p" * 100), TimedOutError)
    assert (running.text("answered"), running.last("answered").finish_reason) == ("answ", "length")
    assert running.count("requests_timed_out") == 2
    assert (running.slots.n_free, running.scheduler.n_running) == (4, 0)


def test_a_cancelled_sequence_sends_nothing_more_and_leaves_its_tokens_in_the_slot():
    running = Running()
    sequence = running.admit("hello world, once more")
    running.run(until=lambda: running.text("hello world, once more") == "hello")
    sequence.abort.request()
    n_sent = len(running.sent["hello world, once more"])
    running.run()
    assert len(running.sent["hello world, once more"]) == n_sent
    assert running.count("requests_cancelled") == 1
    assert running.slots.n_cached([*sequence.prompt, 1]) == len(sequence.prompt)
    assert all(sampler.closed for sampler in running.model.samplers)


def test_an_aborted_chunk_leaves_what_was_computed_before_it():
    running = Running()
    sequence = running.admit("x" * 60)
    running.scheduler._prefill_chunk(sequence, CHUNK)
    sequence.abort.request()
    running.scheduler._prefill(None)
    assert running.model.context.cache[0] == list(sequence.prompt[:CHUNK])
    running.run()
    assert running.sent["x" * 60] == []


def test_stopping_ends_answers_with_length_and_prompts_with_an_error():
    running = Running()
    running.admit("answered")
    running.run(until=lambda: running.text("answered") == "ans")
    running.admit("waiting")
    running.scheduler.stop()
    assert running.last("answered").finish_reason == "length"
    assert isinstance(running.last("waiting"), UnavailableError)
    assert running.scheduler.n_running == 0


def test_an_error_of_one_sequence_clears_its_slot_and_spares_the_others(caplog):
    running = Running()
    for text in ("good", "bad"):
        running.admit(text)
    failing = running.scheduler._prefilling[1]
    running.run(until=lambda: len(running.scheduler._decoding) == 2)
    slot = failing.running_slot
    failing.sampler.sample = lambda context, index: 1 // 0
    running.run()
    assert isinstance(running.last("bad"), ZeroDivisionError)
    assert running.text("good") == "good"
    assert running.model.context.cache[slot.seq_id] == [], "what it holds is not known"
    assert "a request failed" in caplog.text
    assert running.count("requests_finished", reason="error") == 1


def test_a_users_mistake_is_not_logged_as_a_fault(monkeypatch, caplog):
    def refuse(*_: Any) -> None:
        raise LorryError("no such thing")

    running = Running()
    running.admit("bad")
    monkeypatch.setattr(running.model, "sampler", refuse)
    running.run()
    assert str(running.last("bad")) == "no such thing"
    assert caplog.text == ""
    assert running.slots.n_free == 4


def test_tokens_and_times_are_counted():
    running = Running()
    running.admit("abc")
    running.clock.seconds += 2
    running.run()
    value = running.metrics.registry.get_sample_value
    assert value("lorry_time_to_first_token_seconds_sum") == 2
    assert value("lorry_inter_token_latency_seconds_count") == 3, "the end is a token too"
    assert running.count("completion_tokens") == 3
    assert (running.count("prompt_tokens", kind="computed"), running.count("prefix_hits")) == (5, 0)
    running.admit("abc")
    running.run()
    assert (running.count("prompt_tokens", kind="cached"), running.count("prefix_hits")) == (4, 1)
