"""A real Chromium on the chat page, over the real server."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import free_port, lorry_process

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium here; install Debian's package chromium"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "CI must install Debian's package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chat_address(server) -> Iterator[str]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with lorry_process("chat", "--server", f"{server}/v1", "--port", str(port), ready=f"{address}/livez"):
        yield address


@pytest.fixture
def page(browser, chat_address) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(chat_address)
    expect(page.locator("#question textarea")).to_be_visible(timeout=30_000)
    yield page
    page.close()


def ask(page: Page, question: str) -> None:
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")


def answered(page: Page) -> None:
    expect(page.locator("#status")).to_contain_text("first token after", timeout=30_000)


def set_limit(page: Page, tokens: int) -> None:
    page.get_by_text("Settings", exact=True).click()
    field = page.get_by_label(re.compile("number input for Length limit"))
    field.fill(str(tokens))
    field.press("Tab")


def test_a_question_gets_a_streamed_answer_with_its_speed(page):
    ask(page, "What is Lorry?")
    expect(page.locator("#chat .user").first).to_contain_text("What is Lorry?")
    answered(page)
    expect(page.locator("#status")).to_contain_text("tokens/s")
    assert page.locator("#chat .bot").last.inner_text().strip()
    assert page.locator("#question textarea").input_value() == ""


def test_stop_ends_the_answer_and_the_next_question_is_answered(page):
    set_limit(page, 400)
    ask(page, "Tell me much")
    expect(page.locator("#chat .bot").last).to_be_visible(timeout=30_000)
    page.locator("#stop").click()
    expect(page.locator("#status")).to_contain_text("Stopped.")
    set_limit(page, 16)
    ask(page, "And now?")
    answered(page)


def test_retry_answers_the_same_question_again(page):
    ask(page, "Hello")
    answered(page)
    page.locator("#retry").click()
    answered(page)
    assert page.locator("#chat .user.message, #chat .message.user").count() == 1


def test_clear_empties_the_conversation(page):
    ask(page, "Hello")
    answered(page)
    page.locator("#clear").click()
    expect(page.get_by_text("Ask something. Enter sends.")).to_be_visible()


def test_nothing_on_the_page_comes_from_another_host(browser, chat_address):
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(chat_address)
    expect(page.locator("#question textarea")).to_be_visible(timeout=30_000)
    ask(page, "Hello")
    answered(page)
    page.close()
    assert asked
    assert [url for url in asked if not url.startswith((chat_address, "data:", "blob:"))] == []


def test_a_server_that_is_gone_shows_as_words(browser):
    port, nobody = free_port(), free_port()
    address = f"http://127.0.0.1:{port}"
    with lorry_process(
        "chat", "--server", f"http://127.0.0.1:{nobody}/v1", "--port", str(port), ready=f"{address}/livez"
    ):
        page = browser.new_page()
        page.goto(address)
        ask(page, "Anyone?")
        expect(page.locator("#status")).to_contain_text("does not answer. Is it running? Try again.", timeout=30_000)
        page.close()
