"""A real Chromium on the compare view and its votes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions import set_number
from tests.browser.conftest import chat_process
from tests.conftest import run_lorry
from tests.openai_stub import Stub


@pytest.fixture(scope="module")
def stubs() -> Iterator[list[Stub]]:
    own = {"default_generation_settings": {"temperature": 0.6, "top_p": 0.9, "max_tokens": 128}}
    with Stub("base", delta_seconds=0.05) as base, Stub("tuned", meta=own) as tuned:
        yield [base, tuned]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("chat")


@pytest.fixture(scope="module")
def address(stubs, data_dir) -> Iterator[str]:
    servers = [flag for stub in stubs for flag in ("--server", f"{stub.address}/v1")]
    with chat_process(*servers, data_dir=data_dir) as address:
        yield address


@pytest.fixture
def page(visit, address) -> Page:
    page = visit(address)
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare-prompt textarea")).to_be_visible()
    return page


def compare(page: Page, prompt: str) -> dict[str, str]:
    """What each letter has answered."""
    page.locator("#compare-prompt textarea").fill(prompt)
    page.locator("#compare").click()
    expect(page.locator("#ballot")).to_be_visible()
    return {letter: page.locator(f"#answer-{letter}").inner_text().strip() for letter in "AB"}


def test_a_blind_comparison_names_the_models_after_the_vote_and_votes_add_up(page, data_dir, tmp_path):
    answers = compare(page, "Which is better?")
    assert sorted(answers.values()) == ["base heard: Which is better?", "tuned heard: Which is better?"]
    for letter in "AB":
        expect(page.locator(f"#head-{letter}")).to_have_text(letter)
    tuned = next(letter for letter, answer in answers.items() if answer.startswith("tuned"))
    page.locator("#ballot").get_by_label(tuned, exact=True).click()
    expect(page.locator("#compare-status")).to_contain_text("Your vote: tuned. Thank you.")
    expect(page.locator(f"#head-{tuned}")).to_contain_text("tuned · 5 tokens")
    page.get_by_role("tab", name="Votes").click()
    rows = page.locator("#votes tbody tr")
    expect(rows).to_have_count(2)
    assert [cell.strip() for cell in rows.first.locator("td").all_inner_texts()][:5] == [
        "tuned",
        "1",
        "0",
        "0",
        "100 %",
    ]
    assert "tokens/s" in rows.nth(1).inner_text()
    with sqlite3.connect(data_dir / "chat.sqlite") as tables:
        assert tables.execute("SELECT blind, vote FROM comparison").fetchall() == [(1, tuned)]
    done = run_lorry("feedback", "--data-dir", str(data_dir), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (pair,) = [json.loads(line) for line in (tmp_path / "preferences.jsonl").read_text().splitlines()]
    assert pair["chosen"][0]["content"] == "tuned heard: Which is better?"
    assert pair["rejected"][0]["content"] == "base heard: Which is better?"
    assert (tmp_path / "liked.jsonl").read_text() == ""


def test_an_open_comparison_shows_names_and_figures_and_stop_ends_both(page, stubs):
    page.locator("#blind input").uncheck()
    page.locator("#compare-prompt textarea").fill("count")
    page.locator("#compare").click()
    expect(page.locator("#answer-A")).to_contain_text("3 4 5")
    expect(page.locator("#head-A")).to_contain_text("base")
    for stub in stubs:
        stub.gone.clear()
    page.locator("#compare-stop").click()
    expect(page.locator("#ballot")).to_be_visible()
    for letter in "AB":
        expect(page.locator(f"#head-{letter}")).to_contain_text("stopped")
    assert all(stub.gone.wait(timeout=10) for stub in stubs)


def test_a_model_that_refuses_does_not_stop_the_other(page, stubs):
    stubs[0].refuses.add("half")
    # The message of an error could identify the model.
    blind = compare(page, "half")
    assert sorted(blind.values()) == ["tuned heard: half", "⚠ This model cannot answer now."]
    page.locator("#blind input").uncheck()
    page.locator("#compare").click()
    refusal = "The model server refuses: the prompt has 9 tokens too many"
    expect(page.locator("#answer-A")).to_contain_text(refusal)
    expect(page.locator("#answer-B")).to_contain_text("tuned heard: half")


def test_each_model_answers_by_its_own_defaults_or_all_by_the_same(page, stubs):
    def asked() -> list[tuple[float, float, int]]:
        return [tuple(stub.asked[-1][key] for key in ("temperature", "top_p", "max_tokens")) for stub in stubs]

    compare(page, "own")
    assert asked() == [(0.0, 1.0, 256), (0.6, 0.9, 128)]
    page.locator("#compare-prompt").locator("xpath=ancestor::*[@role='tabpanel']").get_by_text(
        "Settings", exact=True
    ).click()
    page.locator("#compare-own input").uncheck()
    set_number(page, "Temperature of all", "0.3")
    compare(page, "alike")
    for letter in "AB":
        expect(page.locator(f"#answer-{letter}")).to_contain_text("heard: alike")
    assert asked() == [(0.3, 1.0, 256)] * 2


def test_one_model_alone_is_no_comparison(visit, stubs, tmp_path):
    with chat_process("--server", f"{stubs[0].address}/v1", data_dir=tmp_path) as address:
        page = visit(address)
        page.get_by_role("tab", name="Compare").click()
        page.locator("#compare-prompt textarea").fill("alone")
        page.locator("#compare").click()
        expect(page.locator("#compare-status")).to_contain_text("Choose at least two models.")


def test_a_blind_comparison_outlives_a_reload_and_sends_the_browser_no_names_before_the_vote(page, stubs):
    seen: list[str] = []
    page.on("response", lambda response: seen.append(response.url))
    stubs[0].answers["slowly"] = stubs[1].answers["slowly"] = " ".join("abcdefghij")
    stubs[0].delta_seconds = 0.3
    page.locator("#compare-prompt textarea").fill("slowly")
    page.locator("#compare").click()
    expect(page.locator("#answer-A")).to_contain_text("a")
    page.reload()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#ballot")).to_be_visible()
    for letter in "AB":
        expect(page.locator(f"#answer-{letter}")).to_have_text("a b c d e f g h i j")
        expect(page.locator(f"#head-{letter}")).to_have_text(letter)
    url = next(url for url in seen if "/comparisons/" in url)
    sent = page.evaluate("url => fetch(url).then((response) => response.text())", url)
    assert not [word for word in ("base", "tuned", "tokens", "first token") if word in sent]
    page.get_by_role("tab", name="Votes").click()
    stubs[0].delta_seconds = 0.05
    page.get_by_role("tab", name="Compare").click()
    page.locator("#ballot").get_by_label("A", exact=True).click()
    expect(page.locator("#head-A")).to_contain_text("tokens")
    expect(page.locator("#compare-status")).to_contain_text("Thank you.")


def test_a_comparison_that_has_ended_is_there_to_vote_on_after_a_reload_and_gone_once_voted(page):
    page.locator("#compare-prompt textarea").fill("quickly")
    page.locator("#compare").click()
    expect(page.locator("#ballot")).to_be_visible()
    answer = page.locator("#answer-A").inner_text()
    page.reload()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#ballot")).to_be_visible()
    expect(page.locator("#answer-A")).to_have_text(answer)
    page.locator("#ballot").get_by_label("A", exact=True).click()
    expect(page.locator("#compare-status")).to_contain_text("Thank you.")
    page.get_by_role("tab", name="Votes").click()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare-status")).to_contain_text("Thank you.")
