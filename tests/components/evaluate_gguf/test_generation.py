"""Generating answers: limits, times, the cores that they are measured on, and the process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import Message
from components.errors import ModelError
from components.evaluate.prompts import Prompt
from components.evaluate_gguf import generation
from components.evaluate_gguf.generation import (
    GenerationJob,
    TimedAnswer,
    choose_cores,
    figures_of,
    generate,
    measure_answers,
)
from components.modeling.chat_template import Edges

END = 0
ASK = [Message(role="user", content="ask")]


class Scripted:
    """A model that says given texts, one after the other; a token is a character."""

    def __init__(self, *texts: str, n_ctx: int = 100, end: bool = True) -> None:
        self.texts, self.n_ctx, self.ends = list(texts), n_ctx, end
        self.answer_edges = Edges()
        self.asked: list[list[Message]] = []

    def prompt_tokens(self, messages: Sequence[Message]) -> list[int]:
        self.asked.append(list(messages))
        return list(map(ord, "".join(message.content for message in messages)))

    def generate(self, tokens: Sequence[int], sampling: Any) -> Iterator[int]:
        assert sampling.temperature == 0
        return chain(map(ord, self.texts.pop(0)), [END] if self.ends else (), repeat(ord("?")))

    def is_end(self, token: int) -> bool:
        return token == END

    def piece(self, token: int) -> bytes:
        return chr(token).encode()


def generated(model: Scripted, max_new_tokens: int = 50) -> generation.Generated:
    return generate(model, ASK, max_new_tokens)  # type: ignore[arg-type]


def test_an_answer_ends_at_the_end_of_its_turn():
    answer = generated(Scripted("hello"))
    assert (answer.text, answer.n_tokens, answer.n_prompt_tokens) == ("hello", 5, 3)
    assert 0 < answer.first_token_seconds <= answer.seconds


def test_an_answer_ends_at_its_limit_or_where_the_context_does():
    assert generated(Scripted("hello"), 2).text == "he"
    assert generated(Scripted("hello", n_ctx=7)).text == "hell"
    assert generated(Scripted("", end=True)).n_tokens == 0


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers():
    with pytest.raises(ModelError, match="3 tokens and the context holds 3; shorten it"):
        generated(Scripted("hello", n_ctx=3))


def test_each_turn_follows_the_answers_before_it_without_their_reasoning():
    model = Scripted("<think>hm</think>one", "two")
    job = GenerationJob(
        model_path=Path("m.gguf"), name="f16", prompts=[], max_new_tokens=50, n_threads=1, answers_path=Path("a")
    )
    prompt = Prompt(name="greeting", system="be kind", turns=["first?", "second?"])
    answers = generation._answer_prompt(model, prompt, job, 4)  # type: ignore[arg-type]
    assert [(a.prompt, a.turn, a.model, a.text, a.n_threads) for a in answers] == [
        ("greeting", "first?", "f16", "<think>hm</think>one", 4), ("greeting", "second?", "f16", "two", 4),
    ]  # fmt: skip
    assert [(message.role, message.content) for message in model.asked[1]] == [
        ("system", "be kind"), ("user", "first?"), ("assistant", "one"), ("user", "second?"),
    ]  # fmt: skip


def timed(model: str, seconds: float, first: float, n_tokens: int) -> TimedAnswer:
    return TimedAnswer("p", "t", model, "text", seconds, n_tokens, first, 10, 2)


def test_figures_are_means_over_the_answers_of_one_file():
    answers = [timed("f16", 1.0, 0.2, 10), timed("f16", 3.0, 0.4, 20), timed("quantized", 9.0, 9.0, 9)]
    assert figures_of("f16", answers) == pytest.approx(
        {"f16_seconds_per_answer": 2.0, "f16_longest_seconds": 3.0, "f16_first_token_seconds": 0.3,
         "f16_tokens_per_second": 30 / 4}
    )  # fmt: skip
    assert figures_of("other", answers) == {}
    assert figures_of("f16", [timed("f16", 0.0, 0.0, 0)])["f16_tokens_per_second"] == 0


@pytest.fixture
def topology(tmp_path, monkeypatch) -> Path:
    """Eight cores: each physical one has two, n and n + 4."""
    monkeypatch.setattr(generation, "TOPOLOGY", tmp_path)
    for core in range(8):
        (tmp_path / f"cpu{core}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{core}/topology/thread_siblings_list").write_text(f"{core % 4},{core % 4 + 4}\n")
    return tmp_path


def test_physical_cores_are_taken_before_their_second_threads(topology):
    for _ in range(20):
        for n in range(1, 9):
            cores = choose_cores(n, range(8))
            assert len(set(cores)) == n
            assert {core % 4 for core in cores[:4]} == {core % 4 for core in cores}
        assert set(choose_cores(4, range(8))) == {0, 1, 2, 3}


def test_measurements_beside_each_other_begin_at_different_cores(topology):
    assert len({choose_cores(1, range(8))[0] for _ in range(100)}) == 4


@pytest.mark.parametrize(("listed", "expected"), [("0-3", {0, 1, 2, 3}), ("2,6", {2, 6}), ("0-1,8-9", {0, 1, 8, 9})])
def test_a_list_of_hardware_threads_may_have_ranges(topology, listed, expected):
    (topology / "cpu0/topology/thread_siblings_list").write_text(listed + "\n")
    assert generation._threads_of_physical_core(0) == expected
    assert generation._threads_of_physical_core(99) == set()


def test_where_linux_lists_no_topology_any_cores_do(topology, monkeypatch):
    monkeypatch.setattr(generation, "TOPOLOGY", topology / "none")
    assert sorted(choose_cores(3, {5, 6, 7})) == [5, 6, 7]


def test_on_this_machine_the_chosen_cores_are_usable_ones():
    usable = os.sched_getaffinity(0)
    for n in range(1, len(usable) + 1):
        assert len(set(choose_cores(n, usable)) & usable) == n


def test_answers_come_from_a_process_of_its_own(tiny_run, tmp_path):
    prompts = [Prompt(name="one", turns=["Say hello.", "Again?"]), Prompt(name="two", turns=["And you?"])]
    answers = measure_answers(tiny_run.model, "quantized", prompts, max_new_tokens=3, n_threads=1, folder=tmp_path)
    assert [(a.prompt, a.turn) for a in answers] == [("one", "Say hello."), ("one", "Again?"), ("two", "And you?")]
    assert {(a.model, a.n_threads) for a in answers} == {("quantized", 1)}
    assert all(0 <= a.n_tokens <= 3 and 0 < a.first_token_seconds <= a.seconds for a in answers)
    again = measure_answers(tiny_run.model, "quantized", prompts[1:], max_new_tokens=3, n_threads=1, folder=tmp_path)
    assert [a.text for a in again] == [answers[2].text]


def test_a_file_that_cannot_be_loaded_is_named_with_its_exit_code(tmp_path):
    with pytest.raises(ModelError, match=r"none\.gguf: its answers could not be measured \(exit code 1\)"):
        measure_answers(tmp_path / "none.gguf", "f16", [], max_new_tokens=3, n_threads=1, folder=tmp_path)
