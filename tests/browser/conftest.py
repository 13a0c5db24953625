"""Chromium, and chat pages for it to open. A module may have its own ``stub`` and ``address``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import free_port, lorry_process
from tests.openai_stub import Stub

# Playwright's five seconds are few where other tests keep the cores busy.
expect.set_options(timeout=30_000)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP lorry.test 127.0.0.1",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("no Chromium here; install Debian's package chromium")
    assert CHROMIUM is not None, "CI must install Debian's package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def chat_process(*flags: str, data_dir: Path, port: int | None = None, lines: list[str] | None = None) -> Iterator[str]:
    """A chat page; gives its address. What it prints goes into ``lines``."""
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    arguments = ["chat", "--port", str(port), "--data-dir", str(data_dir), *flags]
    with lorry_process(*arguments, ready=f"{address}/livez", lines=lines):
        yield address


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Page]]:
    """Opens an address as a visitor of its own, with cookies of its own; ``watch`` is given the page before."""
    with ExitStack() as stack:

        def open_page(address: str, watch: Callable[[Page], None] | None = None, **options: object) -> Page:
            context = browser.new_context(**options)
            stack.callback(context.close)
            page = context.new_page()
            if watch is not None:
                watch(page)
            page.goto(address)
            expect(page.locator("#question textarea")).to_be_visible()
            # Its models come with the first answer of the page.
            expect(page.locator("#model input")).not_to_have_value("")
            return page

        yield open_page


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with Stub(meta={"example_prompts": ["What is quantization?"]}) as stub:
        yield stub


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chat")


@pytest.fixture(scope="module")
def address(stub: Stub, data_dir: Path) -> Iterator[str]:
    with chat_process("--server", f"{stub.address}/v1", data_dir=data_dir) as address:
        yield address


@pytest.fixture
def page(visit: Callable[..., Page], address: str) -> Page:
    return visit(address)
