"""A real Chromium on the chat: over the real server where figures count, over a stub where words do."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import APIResponse, Locator, Page, Route, expect

from components.errors import DataError
from components.split_data.config import SplitConfig
from tests.browser.conftest import chat_process
from tests.conftest import free_port, run_lorry, split_data
from tests.openai_stub import Stub

FIGURES = re.compile(r"\d+ tokens · .*first token after [\d.]+ s · [\d.]+ s in all")


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with Stub(meta={"example_prompts": ["What is quantization?"]}) as stub:
        yield stub


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("chat")


@pytest.fixture(scope="module")
def address(stub, data_dir) -> Iterator[str]:
    with chat_process("--server", f"{stub.address}/v1", data_dir=data_dir) as address:
        yield address


@pytest.fixture
def page(visit, address) -> Page:
    return visit(address)


def ask(page: Page, question: str) -> None:
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")


def state(page: Page) -> Locator:
    """Says whether an answer runs."""
    return page.locator("#state")


def answered(page: Page, text: str = "") -> None:
    """Waits for the last answer to end; ``text`` of it tells it from the one before."""
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


def test_a_real_answer_is_streamed_with_its_speed(visit, server, tmp_path):
    with chat_process("--server", f"{server}/v1", data_dir=tmp_path) as address:
        page = visit(address)
        page.get_by_text("Settings", exact=True).click()
        limit = page.get_by_label(re.compile("number input for Length limit"))
        limit.fill("16")
        limit.press("Tab")
        ask(page, "What is Lorry?")
        answered(page)
        expect(page.locator("#status")).to_contain_text("tokens/s")
        assert answers(page)[0].strip()
        assert page.locator("#question textarea").input_value() == ""
        told = re.search(r"(\d+) tokens", figures_below(page, 0))
        assert told is not None
        assert int(told[1]) <= 16


def test_stop_keeps_what_has_come_and_frees_the_servers_place(visit, server, tmp_path):
    def running() -> float:
        lines = httpx.get(f"{server}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("lorry_requests_running ")).split()[1])

    with chat_process("--server", f"{server}/v1", data_dir=tmp_path) as address:
        page = visit(address)
        page.get_by_text("Settings", exact=True).click()
        for name, value in (("Length limit", "2048"), ("Temperature", "2")):
            page.get_by_label(re.compile(f"number input for {name}")).fill(value)
            page.keyboard.press("Tab")
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


def test_two_windows_of_one_person_show_the_same_answer_and_lose_nothing(page, address, stub):
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


def test_what_another_window_has_changed_is_not_judged_or_edited_by_its_place(page, address):
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


def test_retry_and_edit_answer_anew_in_the_same_place(page, stub):
    ask(page, "one")
    answered(page, "stub heard: one")
    ask(page, "two")
    answered(page, "stub heard: two")
    n_asked = len(stub.asked)
    page.locator("#retry").click()
    wait_until(page, lambda: len(stub.asked) > n_asked)
    expect(page.locator("#chat .bot-row")).to_have_count(2)
    answered(page, "stub heard: two")
    assert [body["temperature"] for body in stub.asked[-2:]] == [0, 0.7], "at 0 it would say the same again"
    assert "seed" not in stub.asked[-1]
    assert questions(page) == ["one", "two"]
    assert [body["messages"][-1]["content"] for body in stub.asked[n_asked:]] == ["two"]
    page.get_by_label("Edit").first.click()
    page.locator("#chat textarea").fill("three")
    page.get_by_label("Submit").click()
    expect(page.locator("#chat .bot-row").last).to_contain_text("stub heard: three")
    answered(page)
    assert questions(page) == ["three"]


def test_settings_and_system_prompt_reach_the_server(page, stub):
    page.get_by_text("Settings", exact=True).click()
    page.locator("#system textarea").fill("Be kind.")
    for name, value in (("Temperature", "0.7"), ("Top-p", "0.5"), ("Length limit", "32")):
        page.get_by_label(re.compile(f"number input for {re.escape(name)}")).fill(value)
        page.keyboard.press("Tab")
    page.get_by_label("Seed").fill("7")
    page.keyboard.press("Tab")
    ask(page, "Hello")
    answered(page, "stub heard: Hello")
    body = stub.asked[-1]
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0.7, 0.5, 32, 7)


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
    page.get_by_label(re.compile("number input for Temperature")).fill("1.2")
    page.keyboard.press("Tab")
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
    """What the server says of the page as it was left comes after the answer."""
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


def test_an_error_is_told_and_what_was_typed_stays(page, stub):
    page.get_by_text("Settings", exact=True).click()
    page.locator("#seed input").fill("seven")
    n_asked = len(stub.asked)
    ask(page, "which number?")
    expect(page.locator("#status")).to_contain_text("A number in the settings is none; correct it there.")
    expect(page.locator("#question textarea")).to_have_value("which number?")
    assert len(stub.asked) == n_asked
    page.locator("#seed input").fill("7")
    page.locator("#send").click()
    answered(page, "stub heard: which number?")
    assert stub.asked[-1]["seed"] == 7


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
    said = [row.messages[-1].content for name in ("train", "validation") for row in kept.rows(name)]
    assert "stub heard: liked question" in said
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


def test_a_busy_server_is_asked_again_and_a_refusal_shows_its_words(page, stub):
    stub._once.discard("busy")
    ask(page, "busy")
    expect(page.locator("#status")).to_contain_text("The model server is busy; asking again in 3 s")
    answered(page, "stub heard: busy")
    ask(page, "refuse")
    expect(page.locator("#status")).to_contain_text("The model server refuses: the prompt has 9 tokens too many")


def test_a_server_that_is_gone_shows_as_words_and_retry_asks_it_when_it_is_back(browser, tmp_path):
    stub = Stub()
    with chat_process("--server", f"{stub.address}/v1", data_dir=tmp_path) as address:
        page = browser.new_page()
        page.goto(address)
        ask(page, "Anyone?")
        expect(page.locator("#status")).to_contain_text("Is it running? Press Retry to ask again.")
        with stub:
            page.locator("#retry").click()
            answered(page, "stub heard: Anyone?")
            assert questions(page) == ["Anyone?"]
        page.close()


HOSTILE = """Look: <script>window.hacked = 1</script> <img src=x onerror="window.hacked = 2">
[link](javascript:window.hacked=3) ![picture](http://127.0.0.1:9/pixel.png)

```python
print("<b>code</b>")
```

| a | b |
|---|---|
| 1 | 2 |

שלום עולם"""


def test_answers_render_safely_and_nothing_leaves_the_pages_own_host(visit, address, stub):
    stub.answers["render"] = HOSTILE
    stub.answers["long"] = "word " * 4000
    page = visit(address)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    ask(page, "render")
    answered(page, "Look:")
    expect(page.locator("#chat .bot-row pre code, #chat .bot-row pre").first).to_contain_text('print("<b>code</b>")')
    expect(page.locator("#chat .bot-row td").nth(1)).to_have_text("2")
    hebrew = page.locator("#chat .bot-row p", has_text="שלום").last
    box, row = hebrew.bounding_box(), page.locator("#chat .bot-row .message-content").last.bounding_box()
    assert hebrew.evaluate("element => getComputedStyle(element).unicodeBidi") == "plaintext"
    assert box is not None
    assert row is not None
    assert page.evaluate("window.hacked") is None
    assert page.locator("#chat .bot-row script, #chat .bot-row [onerror], #chat a[href^=javascript]").count() == 0
    ask(page, "long")
    answered(page, "word word")
    assert len(answers(page)[-1].split()) == 4000
    assert asked
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_the_page_fits_a_phone_in_the_dark_and_works_by_keyboard_alone(visit, address, tmp_path):
    page = visit(address, viewport={"width": 360, "height": 740}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert "dark" in (page.locator("body").get_attribute("class") or "")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    answered(page, "stub heard: by keyboard")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#question textarea").focus()
    page.keyboard.type("count")
    page.keyboard.press("Enter")
    expect(page.locator("#chat .bot-row").last).to_contain_text("1 2 3")
    page.keyboard.press("Escape")
    expect(page.locator("#status")).to_contain_text("stopped")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "retry":
            break
    page.keyboard.press("Enter")
    expect(state(page)).to_have_attribute("data-state", "running")
    page.keyboard.press("Escape")
    expect(state(page)).to_have_attribute("data-state", "idle")
