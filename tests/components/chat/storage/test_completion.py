"""An answer's figures and its status line."""

from __future__ import annotations

import sqlite3

import pytest

from components.chat.storage.completion import Completion


@pytest.mark.parametrize(
    ("reason", "ending", "can_continue"),
    [("length", "cut at the length limit", True), ("stop", "in all", False), ("stopped", "stopped", True),
     ("broken", "broke off", True), ("content_filter", "content filter", False), ("tool_calls", "support", False)],
)  # fmt: skip
def test_the_status_line_ends_with_how_the_answer_ended(reason, ending, can_continue):
    completion = Completion("x", 9, 0.1, 1.0, reason)
    assert completion.status_line().endswith(ending)
    assert completion.can_continue == can_continue


def test_the_status_line_has_tokens_rate_and_times():
    assert Completion("x", 11, 0.5, 2.5, "stop").status_line() == (
        "11 tokens · 5.0 tokens/s · first token after 0.50 s · 2.5 s in all"
    )
    assert Completion("x", 1, 0.5, 0.5, "stop").status_line().startswith("1 token · first token")


def test_the_reason_of_an_error_follows_the_ending():
    assert (
        Completion("x", 2, 0.1, 1.0, "broken", error="out of memory").status_line().endswith("broke off: out of memory")
    )
    assert Completion(finish_reason="broken", error="out of memory").status_line().endswith("word.: out of memory")


@pytest.mark.parametrize(
    ("reason", "line"),
    [("stopped", "Stopped before the first word."), ("broken", "Broke off before the first word."),
     ("stop", "The model had nothing to say."), (None, "Reading your prompt… 3 s")],
)  # fmt: skip
def test_an_answer_without_a_first_token_has_a_status_line_of_its_own(reason, line):
    assert Completion(finish_reason=reason, seconds=3.0).status_line() == line


def test_a_busy_server_and_reasoning_have_status_lines_of_their_own():
    assert Completion(retry_seconds=2.6).status_line() == "The model server is busy; asking again in 3 s…"
    thinking = Completion(reasoning="let", n_tokens=1, first_token_seconds=0.1)
    assert thinking.status_line().startswith("Thinking… · 1 token ·")


def test_tokens_per_second_count_from_the_first_token():
    assert Completion("x", 11, 0.5, 2.5, "stop").tokens_per_second == pytest.approx(5.0)
    assert Completion("x", 1, 0.5, 0.5, "stop").tokens_per_second is None
    assert Completion("x", 5).tokens_per_second is None


def test_a_continuation_adds_texts_and_figures_and_keeps_the_first_parts_ttft():
    first, second = Completion("a", 5, 1.0, 2.0, "length"), Completion("b", 5, 0.5, 1.5, "stop")
    assert second.appended_to(first) == Completion("ab", 10, 1.0, 3.0, "stop")
    assert second.appended_to(Completion()) == second


def test_only_an_answer_with_text_can_be_continued():
    assert not Completion("", 3, 0.1, 1.0, "length").can_continue
    assert not Completion("growing", 3, 0.1, 1.0).can_continue


def test_a_row_without_figures_is_a_completion_without_them():
    with sqlite3.connect(":memory:") as tables:
        tables.row_factory = sqlite3.Row
        columns = "? AS content, ? AS n_tokens, ? AS first_token_seconds, ? AS seconds, ? AS finish_reason"
        empty = tables.execute(f"SELECT {columns}", ("half", None, None, None, None)).fetchone()
        whole = tables.execute(f"SELECT {columns}", ("all", 7, 0.2, 1.5, "stop")).fetchone()
    tables.close()
    assert Completion.from_row(empty) == Completion("half")
    assert Completion.from_row(whole) == Completion("all", 7, 0.2, 1.5, "stop")
