"""A real Chromium on conversations: several of them, in several windows, over reloads and restarts."""

from __future__ import annotations

import json

from playwright.sync_api import APIResponse, Route, expect

from tests.browser.actions import answered, answers, ask, questions, state, titles, wait_until
from tests.browser.conftest import chat_process
from tests.conftest import free_port


def test_asking_or_opening_another_conversation_while_an_answer_streams_leaves_it(page, stub):
    ask(page, "aside")
    answered(page, "stub heard: aside")
    page.locator("#new").click()
    ask(page, "count")
    expect(page.locator("#chat .bot-row").last).to_contain_text("3 4 5")
    ask(page, "instead")
    answered(page, "stub heard: instead")
    assert questions(page) == ["count", "instead"]
    assert answers(page)[0].startswith("0 1 2")
    ask(page, "count")
    expect(page.locator("#chat .bot-row").last).to_contain_text("3 4 5")
    page.locator("#conversations label", has_text="aside").click()
    expect(page.locator("#chat .bot-row").last).to_contain_text("stub heard: aside")
    expect(state(page)).to_have_attribute("data-state", "idle")
    page.wait_for_timeout(500)
    assert questions(page) == ["aside"]
    assert answers(page)[-1].strip() == "stub heard: aside"
    expect(state(page)).to_have_attribute("data-state", "idle")


def test_two_windows_of_one_user_show_the_same_answer_and_lose_nothing(page, address, stub):
    page.locator("#new").click()
    ask(page, "count")
    expect(page.locator("#chat .bot-row").last).to_contain_text("3 4 5")
    other = page.context.new_page()
    other.goto(address)
    expect(state(other)).to_have_attribute("data-state", "running")
    expect(other.locator("#chat .bot-row").last).to_contain_text("12 13")
    n_seen = len(answers(page)[0])
    # What another window asks ends the answer; this window shows both, and what is being typed there stays.
    page.locator("#question textarea").fill("half a")
    ask(other, "beside")
    answered(other, "stub heard: beside")
    expect(page.locator("#chat .bot-row")).to_have_count(2)
    assert questions(page) == questions(other) == ["count", "beside"]
    assert answers(page) == answers(other)
    assert len(answers(page)[0]) >= n_seen
    assert page.locator("#question textarea").input_value() == "half a"
    ask(page, "and on")
    answered(page, "stub heard: and on")
    assert questions(page) == ["count", "beside", "and on"]


def test_a_turn_that_another_window_has_changed_is_not_rated_or_edited(page, address):
    ask(page, "first")
    answered(page, "stub heard: first")
    other = page.context.new_page()
    other.goto(address)
    expect(other.locator("#chat .bot-row").last).to_contain_text("stub heard: first")
    other.get_by_label("Edit").first.click()
    other.locator("#chat textarea").fill("second")
    other.get_by_label("Submit").click()
    answered(other, "stub heard: second")
    page.get_by_label("Like", exact=True).click()
    expect(page.locator("#status")).to_contain_text("Another window has changed this conversation")
    page.get_by_label("Edit").first.click()
    page.locator("#chat textarea").fill("third")
    page.get_by_label("Submit").click()
    expect(page.locator("#status")).to_contain_text("Another window has changed this conversation")
    page.reload()
    expect(page.locator("#chat .bot-row").last).to_contain_text("stub heard: second")
    assert questions(page) == ["second"]


def test_an_answer_in_a_conversation_that_was_left_goes_on_and_is_there_when_it_is_opened_again(page, stub):
    ask(page, "count")
    expect(page.locator("#chat .bot-row").last).to_contain_text("3 4 5")
    page.locator("#new").click()
    expect(state(page)).to_have_attribute("data-state", "idle")
    ask(page, "meanwhile")
    answered(page, "stub heard: meanwhile")
    page.locator("#conversations label", has_text="count").click()
    expect(state(page)).to_have_attribute("data-state", "running")
    expect(page.locator("#chat .bot-row").last).to_contain_text("40 41")
    page.locator("#stop").click()
    expect(page.locator("#status")).to_contain_text("stopped")


def test_conversations_are_listed_opened_renamed_cleared_and_deleted(page):
    page.on("dialog", lambda dialog: dialog.accept())
    for question in ("first subject", "second subject"):
        page.locator("#new").click()
        ask(page, question)
        answered(page, f"stub heard: {question}")
    assert titles(page) == ["second subject", "first subject"]
    page.locator("#conversations label").nth(1).click()
    expect(page.locator("#chat .bot-row").last).to_contain_text("stub heard: first subject")
    title = page.locator("#title textarea, #title input").first
    # It comes after the conversation, and would go over what is typed before.
    expect(title).to_have_value("first subject")
    title.fill("renamed")
    page.locator("#title").get_by_role("button").click()
    expect(page.locator("#conversations label").nth(1)).to_contain_text("renamed")
    page.locator("#clear").click()
    expect(page.get_by_text("Ask something. Enter sends")).to_be_visible()
    page.locator("#save-rows").click()
    expect(page.locator("#status")).to_have_text("This conversation has no messages yet.")
    page.locator("#delete").click()
    expect(page.locator("#conversations label")).to_have_count(1)
    assert titles(page) == ["second subject"]


def test_a_conversation_is_exported_for_people_and_for_programs(page):
    ask(page, "keep this")
    answered(page, "stub heard: keep this")
    with page.expect_download() as download:
        page.locator("#save-markdown").click()
    assert download.value.suggested_filename == "keep-this.md"
    text = download.value.path().read_text()
    assert "## User\n\nkeep this\n\n## stub\n\nstub heard: keep this" in text
    with page.expect_download() as download:
        page.locator("#save-rows").click()
    row = json.loads(download.value.path().read_text())
    assert [message["content"] for message in row["messages"]] == ["keep this", "stub heard: keep this"]


def test_a_new_chat_does_not_wait_for_the_server(page):
    ask(page, "before")
    answered(page, "stub heard: before")
    held: list[Route] = []
    page.route("**/gradio_api/**", lambda route: held.append(route), times=1)
    page.locator("#new").click()
    expect(page.locator("#chat .bot-row")).to_have_count(0)
    wait_until(page, lambda: bool(held))
    ask(page, "after")
    answered(page, "stub heard: after")
    for route in held:
        route.continue_()
    page.wait_for_timeout(500)
    assert questions(page) == ["after"]
    assert titles(page)[:2] == ["after", "before"]


def test_a_question_asked_while_the_page_still_loads_stays(browser, address):
    """The response to loading the page comes after the answer to that question."""
    page = browser.new_context().new_page()
    held: list[tuple[Route, APIResponse]] = []
    asked: list[str] = []

    def hold(route: Route) -> None:
        if asked:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    page.route("**/gradio_api/run/predict", hold)
    page.goto(address)
    wait_until(page, lambda: bool(held))
    page.wait_for_timeout(500)
    asked.append("early")
    ask(page, "early")
    answered(page, "stub heard: early")
    for route, response in held:
        route.fulfill(response=response)
    expect(page.locator("#model input")).not_to_have_value("")
    page.wait_for_timeout(500)
    assert questions(page) == ["early"]
    answered(page, "stub heard: early")
    page.context.close()


def test_history_outlives_a_reload_and_a_restart_of_the_page(visit, stub, tmp_path):
    port, lines = free_port(), list[str]()
    with chat_process("--server", f"{stub.address}/v1", data_dir=tmp_path, port=port, lines=lines) as address:
        page = visit(address)
        ask(page, "remember me")
        answered(page, "stub heard: remember me")
        page.reload()
        expect(page.locator("#chat .bot-row").last).to_contain_text("stub heard: remember me")
    assert not [line for line in lines if "Traceback" in line or "ERROR" in line], "".join(lines)
    with chat_process("--server", f"{stub.address}/v1", data_dir=tmp_path, port=port):
        page.reload()
        expect(page.locator("#chat .bot-row").last).to_contain_text("stub heard: remember me")
        ask(page, "and go on")
        answered(page, "stub heard: and go on")
        assert [message["content"] for message in stub.asked[-1]["messages"]] == [
            "remember me", "stub heard: remember me", "and go on",
        ]  # fmt: skip


def test_two_visitors_never_see_each_others_conversations(visit, address):
    first, second = visit(address), visit(address)
    ask(first, "my secret")
    answered(first, "stub heard: my secret")
    ask(second, "other words")
    answered(second, "stub heard: other words")
    for page, own in ((first, "my secret"), (second, "other words")):
        page.reload()
        expect(page.locator("#conversations label")).to_have_count(1)
        assert titles(page) == [own]
        expect(page.locator("#chat .bot-row")).to_have_count(1)
        expect(page.locator("#chat")).to_contain_text(own)
