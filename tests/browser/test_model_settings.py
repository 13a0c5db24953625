"""A real Chromium on the settings, and on the examples and defaults of each model."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions import answered, ask, set_number
from tests.browser.conftest import chat_process
from tests.openai_stub import Stub


def test_settings_and_system_prompt_reach_the_server(page, stub):
    page.get_by_text("Settings", exact=True).click()
    page.locator("#system textarea").fill("Be kind.")
    for name, value in (("Temperature", "0.7"), ("Top-p", "0.5"), ("Length limit", "32")):
        set_number(page, name, value)
    page.get_by_label("Seed").fill("7")
    page.keyboard.press("Tab")
    ask(page, "Hello")
    answered(page, "stub heard: Hello")
    body = stub.asked[-1]
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0.7, 0.5, 32, 7)


def test_an_example_is_asked_by_a_click(page):
    page.get_by_text("What is quantization?").click()
    answered(page, "stub heard: What is quantization?")


def examples(page: Page) -> list[str]:
    return page.locator("#chat .example").all_inner_texts()


def choose(page: Page, model: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=model, exact=True).click()
    expect(page.locator("#model input")).to_have_value(model)


def sliders(page: Page) -> list[float]:
    """Temperature, top-p and length limit."""
    names = ("Temperature", "Top-p", "Length limit")
    fields = [page.get_by_label(re.compile(f"number input for {re.escape(name)}")) for name in names]
    return [float(field.input_value()) for field in fields]


@pytest.fixture(scope="module")
def three_models(tmp_path_factory) -> Iterator[str]:
    """A page over two models with settings and examples of their own, and one of a foreign server."""
    lorry = {"example_prompts": ["What is Lorry?", "<b>What</b> is LoRA?"]}
    settings = {"default_generation_settings": {"temperature": 0.6, "top_p": 0.95, "max_tokens": 99_999}}
    cook = {"example_prompts": ["How long does an egg take?"], **settings}
    with Stub("lorry", meta=lorry) as one, Stub("cook", meta=cook) as two, Stub("foreign") as three:
        servers = [flag for stub in (one, two, three) for flag in ("--server", f"{stub.address}/v1")]
        with chat_process(*servers, data_dir=tmp_path_factory.mktemp("three")) as address:
            yield address


def test_examples_and_settings_are_those_of_the_chosen_model(visit, three_models):
    page = visit(three_models)
    page.get_by_text("Settings", exact=True).click()
    expect(page.locator("#chat .example")).to_have_count(2)
    assert examples(page) == ["What is Lorry?", "<b>What</b> is LoRA?"]
    assert sliders(page) == [0.0, 1.0, 256]
    choose(page, "cook")
    expect(page.locator("#chat .example")).to_have_text(["How long does an egg take?"])
    assert sliders(page) == [0.6, 0.95, 2048]
    choose(page, "foreign")
    expect(page.locator("#chat .example")).to_have_count(0)
    assert sliders(page) == [0.0, 1.0, 256]
    choose(page, "cook")
    page.get_by_text("How long does an egg take?").click()
    answered(page, "cook heard: How long does an egg take?")
    page.locator("#new").click()
    expect(page.locator("#chat .example")).to_have_text(["How long does an egg take?"])
    page.reload()
    expect(page.locator("#model input")).to_have_value("cook")
    page.get_by_text("Settings", exact=True).click()
    assert sliders(page) == [0.6, 0.95, 2048]
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#clear").click()
    expect(page.locator("#chat .example")).to_have_text(["How long does an egg take?"])


def test_a_setting_that_was_moved_by_hand_stays_when_another_model_is_chosen(visit, three_models):
    page = visit(three_models)
    page.get_by_text("Settings", exact=True).click()
    set_number(page, "Temperature", "1.2")
    for model, expected in (("cook", [1.2, 0.95, 2048]), ("lorry", [1.2, 1.0, 256])):
        choose(page, model)
        assert sliders(page) == expected
    page.reload()
    page.get_by_text("Settings", exact=True).click()
    expect(page.locator("#model input")).to_have_value("lorry")
    assert sliders(page) == [0.0, 1.0, 256]


def test_examples_of_the_command_line_hold_for_all_models(visit, stub, tmp_path):
    with chat_process("--server", f"{stub.address}/v1", "--examples", "One?|Two?", data_dir=tmp_path) as address:
        page = visit(address)
        expect(page.locator("#chat .example")).to_have_text(["One?", "Two?"])
        page.get_by_text("Two?").click()
        answered(page, "stub heard: Two?")
