"""Models that are renamed, servers that go, contexts that are full: the page goes on and names the model."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import chat_process
from tests.openai_stub import Stub


@pytest.fixture
def stub():
    with Stub("model-Q5_K_M") as stub:
        yield stub


@pytest.fixture
def page(visit, stub, tmp_path):
    with chat_process("--server", f"{stub.address}/v1", data_dir=tmp_path) as address:
        yield visit(address)


def ask(page: Page, question: str, answer: str) -> None:
    page.locator("#question textarea").fill(question)
    page.locator("#send").click()
    expect(page.locator("#chat .bot-row").last).to_contain_text(answer)
    expect(page.locator("#state")).to_have_attribute("data-state", "idle")


def test_a_renamed_model_is_replaced_without_a_reload_and_the_dropdown_shows_by_which(page, stub):
    ask(page, "hello", "model-Q5_K_M heard: hello")
    stub.model = "model-Q8_0"
    ask(page, "again", "model-Q8_0 heard: again")
    expect(page.locator("#status")).to_contain_text("model-Q5_K_M is not available now: model-Q8_0 answers")
    expect(page.locator("#model input")).to_have_value("model-Q8_0")
    ask(page, "and on", "model-Q8_0 heard: and on")
    expect(page.locator("#status")).not_to_contain_text("not available")


def test_a_page_that_is_loaded_after_a_rename_shows_a_model_that_is_served(page, stub):
    ask(page, "hello", "model-Q5_K_M heard: hello")
    stub.model = "model-Q8_0"
    page.reload()
    expect(page.locator("#model input")).to_have_value("model-Q8_0")
    ask(page, "again", "model-Q8_0 heard: again")
    page.locator("#new").click()
    expect(page.locator("#model input")).to_have_value("model-Q8_0")
    ask(page, "new", "model-Q8_0 heard: new")


def test_a_server_that_goes_leaves_the_other_ones_model_and_labels_stay(visit, tmp_path):
    with Stub("base") as one, Stub("base") as two:
        servers = ["--server", f"{one.address}/v1", "--server", f"{two.address}/v1"]
        with chat_process(*servers, data_dir=tmp_path) as address:
            page = visit(address)
            label = f"base ({one.address}/v1)"
            expect(page.locator("#model input")).to_have_value(label)
            two.__exit__()
            page.reload()
            expect(page.locator("#status")).to_contain_text("Not reachable now")
            expect(page.locator("#model input")).to_have_value(label)
            ask(page, "hello", "base heard: hello")


def test_a_full_context_is_no_dead_end(page, stub):
    stub.context = 120
    ask(page, "x" * 60, "model-Q5_K_M heard: x")
    ask(page, "y" * 60, "model-Q5_K_M heard: y")
    expect(page.locator("#status")).to_contain_text("context is full: it did not read the 2 oldest messages")
    page.locator("#question textarea").fill("z" * 200)
    page.locator("#send").click()
    expect(page.locator("#status")).to_contain_text("Your message alone is too long for this model")
    ask(page, "short", "model-Q5_K_M heard: short")


def test_reasoning_is_shown_while_it_comes_and_the_status_says_if_no_answer_follows(page, stub):
    reasoning = 'data: {"choices": [{"delta": {"reasoning_content": "let me think"}, "finish_reason": "length"}]}\n\n'
    stub.streams["think"] = reasoning
    ask(page, "think", "let me think")
    expect(page.locator("#status")).to_contain_text("The model only thought, and gave no answer")
    expect(page.locator("#chat .bot-row blockquote")).to_have_text("let me think")
