"""A real Chromium on the chat page, over the real server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
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


class SlowServer:
    """An OpenAI-compatible server that counts, five numbers a second, until its client goes away."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(self._app(), port=self.port, log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> SlowServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> dict[str, object]:
            return {"object": "list", "data": [{"id": "slow", "object": "model", "created": 0, "owned_by": "test"}]}

        @app.post("/v1/chat/completions")
        async def completions() -> StreamingResponse:
            return StreamingResponse(self._count(), media_type="text/event-stream")

        return app

    async def _count(self) -> AsyncIterator[str]:
        try:
            for number in range(600):
                choice = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}
                head = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "slow"}
                yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
                await asyncio.sleep(0.2)
        finally:
            self.gone.set()


def test_a_question_gets_a_streamed_answer_with_its_speed(page):
    ask(page, "What is Lorry?")
    expect(page.locator("#chat .user").first).to_contain_text("What is Lorry?")
    answered(page)
    expect(page.locator("#status")).to_contain_text("tokens/s")
    assert page.locator("#chat .bot").last.inner_text().strip()
    assert page.locator("#question textarea").input_value() == ""


def test_the_length_limit_reaches_the_server(page):
    page.get_by_text("Settings", exact=True).click()
    field = page.get_by_label(re.compile("number input for Length limit"))
    field.fill("16")
    field.press("Tab")
    ask(page, "Tell me much")
    answered(page)
    tokens = re.match(r"(\d+) tokens", page.locator("#status").inner_text().strip())
    assert tokens is not None
    assert int(tokens[1]) <= 16


def test_stop_keeps_what_has_come_and_ends_the_request(browser):
    with SlowServer() as slow:
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        with lorry_process("chat", "--server", f"{slow.address}/v1", "--port", str(port), ready=f"{address}/livez"):
            page = browser.new_page()
            page.goto(address)
            ask(page, "Count")
            expect(page.locator("#chat .bot").last).to_contain_text("2", timeout=30_000)
            expect(page.locator("#question textarea")).to_be_disabled()
            page.locator("#stop").click()
            expect(page.locator("#status")).to_contain_text("Stopped.")
            expect(page.locator("#question textarea")).to_be_enabled()
            assert slow.gone.wait(timeout=10)
            assert "2" in page.locator("#chat .bot").last.inner_text()
            page.close()


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
