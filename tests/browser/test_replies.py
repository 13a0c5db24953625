"""A real Chromium on replies: over Lorry's server for figures, over a stub for stops and failures."""

from __future__ import annotations

import re

import httpx
from playwright.sync_api import expect

from tests.browser.actions import answered, answers, ask, figures_below, questions, set_number, state, wait_until
from tests.browser.conftest import chat_process
from tests.openai_stub import Stub


def test_a_real_answer_is_streamed_with_its_speed(visit, server, tmp_path):
    with chat_process("--server", f"{server}/v1", data_dir=tmp_path) as address:
        page = visit(address)
        page.get_by_text("Settings", exact=True).click()
        set_number(page, "Length limit", "16")
        ask(page, "What is Lorry?")
        answered(page)
        expect(page.locator("#status")).to_contain_text("tokens/s")
        assert answers(page)[0].strip()
        assert page.locator("#question textarea").input_value() == ""
        n_tokens = re.search(r"(\d+) tokens", figures_below(page, 0))
        assert n_tokens is not None
        assert int(n_tokens[1]) <= 16


def test_stop_keeps_what_has_come_and_frees_the_servers_slot(visit, server, tmp_path):
    def running() -> float:
        lines = httpx.get(f"{server}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("lorry_requests_running ")).split()[1])

    with chat_process("--server", f"{server}/v1", data_dir=tmp_path) as address:
        page = visit(address)
        page.get_by_text("Settings", exact=True).click()
        for name, value in (("Length limit", "2048"), ("Temperature", "2")):
            set_number(page, name, value)
        # The tiny model ends by itself within two seconds; now and then before it is stopped.
        for _ in range(10):
            page.locator("#new").click()
            ask(page, "Tell me everything")
            expect(page.locator("#chat .bot-row")).to_have_count(1)
            was_running = running() == 1
            page.locator("#stop").dispatch_event("click")
            expect(state(page)).to_have_attribute("data-state", "idle")
            if was_running and "stopped" in page.locator("#status").inner_text():
                break
        expect(page.locator("#status")).to_contain_text("stopped")
        wait_until(page, lambda: running() == 0)


def test_an_answer_grows_is_stopped_and_goes_on(page, stub):
    ask(page, "count")
    expect(page.locator("#chat .bot-row").last).to_contain_text("3 4 5")
    expect(page.locator("#status")).to_contain_text("tokens/s")
    stub.gone.clear()
    page.locator("#stop").click()
    expect(page.locator("#status")).to_contain_text("stopped")
    assert stub.gone.wait(timeout=10)
    kept = answers(page)[-1]
    assert "3 4 5" in kept
    page.locator("#go-on").click()
    answered(page, "stub heard: Go on exactly where you stopped")
    assert answers(page)[-1].startswith(kept.strip())
    expect(page.locator("#go-on")).to_be_hidden()
    sent = stub.asked[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]


def test_a_stream_that_breaks_keeps_what_came_and_offers_to_go_on(page, stub):
    stub._once.discard("break")
    ask(page, "break")
    expect(page.locator("#status")).to_contain_text("broke off")
    expect(page.locator("#chat .bot-row").last).to_contain_text("stub heard:")
    page.locator("#go-on").click()
    answered(page, "Go on exactly")


def test_retry_and_edit_replace_the_answer(page, stub):
    ask(page, "one")
    answered(page, "stub heard: one")
    ask(page, "two")
    answered(page, "stub heard: two")
    n_asked = len(stub.asked)
    page.locator("#retry").click()
    wait_until(page, lambda: len(stub.asked) > n_asked)
    expect(page.locator("#chat .bot-row")).to_have_count(2)
    answered(page, "stub heard: two")
    assert [body["temperature"] for body in stub.asked[-2:]] == [0, 0.7], "at 0 it would repeat its answer"
    assert "seed" not in stub.asked[-1]
    assert questions(page) == ["one", "two"]
    assert [body["messages"][-1]["content"] for body in stub.asked[n_asked:]] == ["two"]
    page.get_by_label("Edit").first.click()
    page.locator("#chat textarea").fill("three")
    page.get_by_label("Submit").click()
    expect(page.locator("#chat .bot-row").last).to_contain_text("stub heard: three")
    answered(page)
    assert questions(page) == ["three"]


def test_a_busy_server_is_asked_again_and_a_refusal_shows_its_message(page, stub):
    stub._once.discard("busy")
    ask(page, "busy")
    expect(page.locator("#status")).to_contain_text("The model server is busy; asking again in 3 s")
    answered(page, "stub heard: busy")
    ask(page, "refuse")
    expect(page.locator("#status")).to_contain_text("The model server refuses: the prompt has 9 tokens too many")


def test_a_server_that_is_gone_is_named_and_retry_asks_it_when_it_is_back(browser, tmp_path):
    stub = Stub()
    with chat_process("--server", f"{stub.address}/v1", data_dir=tmp_path) as address:
        page = browser.new_page()
        page.goto(address)
        # Gradio has attached its events once it shows the response to one.
        expect(page.locator("#status")).to_contain_text("Is it running? Press Retry to ask again.")
        ask(page, "Anyone?")
        expect(page.locator("#chat .user-row")).to_have_count(1)
        expect(page.locator("#status")).to_contain_text("Is it running? Press Retry to ask again.")
        with stub:
            page.locator("#retry").click()
            answered(page, "stub heard: Anyone?")
            assert questions(page) == ["Anyone?"]
        page.close()


def test_an_error_is_shown_and_what_was_typed_stays(page, stub):
    page.get_by_text("Settings", exact=True).click()
    page.locator("#seed input").fill("seven")
    n_asked = len(stub.asked)
    ask(page, "which number?")
    expect(page.locator("#status")).to_contain_text("A value in the settings is not a number; correct it there.")
    expect(page.locator("#question textarea")).to_have_value("which number?")
    assert len(stub.asked) == n_asked
    page.locator("#seed input").fill("7")
    page.locator("#send").click()
    answered(page, "stub heard: which number?")
    assert stub.asked[-1]["seed"] == 7
