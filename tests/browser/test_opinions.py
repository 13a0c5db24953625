"""A real Chromium on Like and Dislike, and the training data that they become."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Locator, expect

from components.errors import DataError
from components.split_data.config import SplitConfig
from tests.browser.actions import answered, ask
from tests.conftest import run_lorry, split_data


def test_what_is_liked_becomes_training_rows_and_what_is_disliked_never_does(page, data_dir, tmp_path):
    for question in ("liked question", "disliked question"):
        page.locator("#new").click()
        ask(page, question)
        answered(page, f"stub heard: {question}")
        page.get_by_label("Like" if question.startswith("liked") else "Dislike", exact=True).last.click()
        page.locator("#note textarea").fill(f"because of {question}")
        page.locator("#note").get_by_role("button").click()
        expect(page.locator("#status")).to_contain_text("your note is saved")
    page.reload()
    expect(page.get_by_label("Disliked", exact=True)).to_be_visible()
    done = run_lorry("feedback", "--data-dir", str(data_dir), "--out", str(tmp_path / "feedback"))
    assert done.returncode == 0, done.stderr
    liked, disliked = (
        [json.loads(line) for line in (tmp_path / "feedback" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("liked", "disliked")
    )
    assert [row["messages"][-1]["content"] for row in liked] == ["stub heard: liked question"]
    assert [row["note"] for row in disliked] == ["because of disliked question"]
    rows = [{"messages": [*liked[0]["messages"][:-1], {"role": "assistant", "content": str(n)}]} for n in range(9)]
    (tmp_path / "next.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*liked, *rows]))
    kept = split_data(tmp_path / "split", SplitConfig(data=str(tmp_path / "next.jsonl"), validation_rows=2))
    learned = [row.messages[-1].content for name in ("train", "validation") for row in kept.rows(name)]
    assert "stub heard: liked question" in learned
    with pytest.raises(DataError, match="has no 'messages' key"):
        split_data(tmp_path / "no", SplitConfig(data=str(tmp_path / "feedback" / "disliked.jsonl"), validation_rows=1))


def test_a_mark_stays_with_its_answer_and_with_no_other(page):
    def mark() -> Locator:
        return page.get_by_label("Liked", exact=True)

    ask(page, "marked")
    answered(page, "stub heard: marked")
    expect(page.locator("#why")).to_be_hidden()
    page.get_by_label("Like", exact=True).click()
    expect(page.locator("#why")).to_be_visible()
    expect(mark()).to_have_count(1)
    ask(page, "unmarked")
    answered(page, "stub heard: unmarked")
    expect(page.locator("#why")).to_be_hidden()
    expect(mark()).to_have_count(1)
    expect(page.get_by_label("Like", exact=True)).to_have_count(1)
    page.locator("#new").click()
    ask(page, "elsewhere")
    answered(page, "stub heard: elsewhere")
    expect(mark()).to_have_count(0)
    page.get_by_label("Like", exact=True).click()
    expect(mark()).to_have_count(1)
    page.locator("#retry").click()
    expect(mark()).to_have_count(0)
    answered(page, "stub heard: elsewhere")
    expect(mark()).to_have_count(0)
    page.locator("#conversations label").nth(1).click()
    expect(page.locator("#chat .bot-row")).to_have_count(2)
    expect(mark()).to_have_count(1)
