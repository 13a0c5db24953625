"""What a visitor does and sees on the chat page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

FIGURES = re.compile(r"\d+ tokens · .*first token after [\d.]+ s · [\d.]+ s in all")


def ask(page: Page, question: str) -> None:
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")


def set_number(page: Page, name: str, value: str) -> None:
    """Types a value into the number of the slider ``name``, until the slider itself has it.

    A panel is drawn when it is opened first; CI once saw a value that was typed at that moment not reach the page.
    """
    number = page.get_by_label(re.compile(f"number input for {re.escape(name)}"))
    slider = page.get_by_label(re.compile(f"range slider for {re.escape(name)}"))

    def has_it() -> bool:
        number.fill(value)
        number.press("Tab")
        return float(slider.input_value()) == float(value)

    wait_until(page, has_it)


def state(page: Page) -> Locator:
    """Its attribute ``data-state`` is ``running`` or ``idle``."""
    return page.locator("#state")


def answered(page: Page, text: str = "") -> None:
    """Waits for the last answer to end; ``text`` in it distinguishes it from the one before."""
    expect(page.locator("#chat .bot-row").last).to_contain_text(text)
    expect(page.locator("#status")).to_contain_text(FIGURES)
    expect(state(page)).to_have_attribute("data-state", "idle")


def wait_until(page: Page, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


def questions(page: Page) -> list[str]:
    return page.locator("#chat [data-testid=user]").all_inner_texts()


def answers(page: Page) -> list[str]:
    return page.locator("#chat [data-testid=bot]").all_inner_texts()


def titles(page: Page) -> list[str]:
    return [title.strip() for title in page.locator("#conversations label").all_inner_texts()]


def figures_below(page: Page, number: int) -> str:
    row = page.locator("#chat .bot-row .message-content").nth(number)
    return row.evaluate("element => getComputedStyle(element, '::after').content")
