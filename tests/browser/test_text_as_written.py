"""What is written is what is shown, copied and edited; nothing of it runs or loads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import chat_process
from tests.openai_stub import Stub

TEXTS = {
    "generic": "std::vector<int> v; List<Map<String, T>> x",
    "placeholder": "Replace <your name> and <YOUR_API_KEY> by yours",
    "tags": "<div> and </div>, <b>bold</b>, a <table><tr><td>cell</td></tr></table>, <br>",
    "thoughts": "<think>inner</think> outer <|im_end|>",
    "comment": "before <!-- a comment --> behind",
    "block": "<div>\n\nwords\n\n</div>",
    "script": "<script>window.hacked = 1</script> behind",
    "picture": '<img src=x onerror="window.hacked = 2"> tail',
    "entity": "write &lt; for <, &amp; for & and &copy;",
    "less": "5 < 6 > 4 & c, a<b, x <- y, <3",
    "unclosed": "an unclosed <textarea and <style> p { display: none }",
    "svg": "<svg onload=window.hacked=3><a href=javascript:window.hacked=4>x</a></svg>",
    "money": "It costs $5 and then $10 more",
    "include": "#include <stdio.h>",
}
CODE = """Here: `a<b> && &lt; \\(x\\)` and

```python
print("<b>&amp;</b>", "$$", 5 % 3)  # <div> \\(no maths\\)
```

```bash
kill $$; sed 's/\\(.*\\)/<\\1>/'; echo $$
```

end"""


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with Stub(answers={**TEXTS, "code": CODE}) as stub:
        yield stub


@pytest.fixture(scope="module")
def address(stub, tmp_path_factory) -> Iterator[str]:
    with chat_process("--server", f"{stub.address}/v1", data_dir=tmp_path_factory.mktemp("chat")) as address:
        yield address


@pytest.fixture
def page(visit, address) -> Page:
    return visit(address, permissions=["clipboard-read", "clipboard-write"])


def ask(page: Page, question: str) -> Locator:
    """The answer, once it is there."""
    page.locator("#new").click()
    expect(page.locator("#chat .bot-row")).to_have_count(0)
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")
    expect(page.locator("#chat .bot-row")).to_have_count(1)
    expect(page.locator("#state")).to_have_attribute("data-state", "idle")
    return page.locator("#chat [data-testid=bot]").last


def words(text: str) -> list[str]:
    return text.split()


def copied(page: Page, button: Locator) -> str:
    button.click()
    page.wait_for_timeout(100)
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_texts_are_shown_as_they_were_written_in_answers_and_questions(page):
    for name, text in TEXTS.items():
        answer = ask(page, name)
        expect(answer).to_contain_text(words(text)[-1])
        assert words(answer.inner_text()) == words(text), name
        ask(page, text)
        assert words(page.locator("#chat [data-testid=user]").last.inner_text()) == words(text), name
    assert page.evaluate("window.hacked") is None
    assert page.locator("#chat .message script, #chat .message img, #chat .message [onerror]").count() == 0


def test_copying_and_editing_give_the_text_as_it_was_written(page):
    text = TEXTS["tags"]
    page.locator("#new").click()
    ask(page, text)
    assert copied(page, page.get_by_label("Copy message").first) == text
    page.get_by_label("Edit").first.click()
    expect(page.locator("#chat textarea")).to_have_value(text)
    answer = ask(page, "code")
    assert copied(page, page.get_by_label("Copy message").last) == CODE
    assert copied(page, answer.locator(".copy_code_button").first).strip() == CODE.split("\n")[3]
    assert CODE in copied(page, page.get_by_label("Copy conversation"))


def test_code_is_shown_as_it_was_written(page):
    answer = ask(page, "code")
    expect(answer.locator("pre code")).to_have_count(2)
    blocks = answer.locator("pre code").all_inner_texts()
    lines = CODE.split("\n")
    assert [block.strip() for block in blocks] == [lines[3], lines[7]]
    assert answer.locator("p code").inner_text() == r"a<b> && &lt; \(x\)"
    assert answer.locator(".katex").count() == 0


def test_markdown_and_maths_are_drawn_and_pictures_are_links(page, stub):
    stub.answers["markdown"] = (
        "**bold** *soft* ~~gone~~ [link](https://example.com) ![plan](http://127.0.0.1:9/plan.png)\n\n"
        "| a | b |\n|---|---|\n| List<int> | 2 |\n\n1. one\n2. two\n\n- [x] task\n"
    )
    stub.answers["maths"] = "Here \\(a_1 < b\\) and\n\n\\[\nx_{1}^2\n\\]\n\nand $$E=mc^2$$ for $5 or $6."
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    answer = ask(page, "markdown")
    for selector, text in (("strong", "bold"), ("em", "soft"), ("del", "gone"), ("td >> nth=0", "List<int>")):
        expect(answer.locator(selector)).to_have_text(text)
    expect(answer.locator("ol li")).to_have_count(2)
    expect(answer.get_by_role("link", name="plan")).to_have_attribute("href", "http://127.0.0.1:9/plan.png")
    assert not [url for url in asked if "plan.png" in url]
    answer = ask(page, "maths")
    expect(answer.locator(".katex")).to_have_count(3)
    drawn = answer.locator("annotation").all_text_contents()
    assert [text.strip() for text in drawn] == ["a_1 < b", "x_{1}^2", "E=mc^2"]
    expect(answer).to_contain_text("for $5 or $6.")


def test_a_text_that_streams_in_is_right_at_every_moment(page, stub):
    text = "Take <your name> and `<code>` and\n\n```html\n<p>one</p>\n```\n\nthen vector<int> <b>x</b> <!-- end -->"
    stub.answers["slowly"] = text
    stub.delta_seconds = 0.25
    try:
        page.locator("#question textarea").fill("slowly")
        page.locator("#send").click()
        seen = set()
        while page.locator("#state").get_attribute("data-state") == "running" or not seen:
            seen |= set(page.locator("#chat [data-testid=bot]").all_inner_texts())
        whole = words(text.replace("```html", "").replace("```", "").replace("`", ""))
        for shown in seen:
            assert words(shown.replace("`", "")) == whole[: len(words(shown.replace("`", "")))]
        assert len(seen) > 5
    finally:
        stub.delta_seconds = 0.0


def test_compared_answers_are_shown_as_they_were_written(visit, tmp_path):
    answers = {"compare": f"{TEXTS['tags']} \\(x^2\\)"}
    with Stub("one", answers=answers) as one, Stub("two", answers=answers) as two:
        flags = [flag for stub in (one, two) for flag in ("--server", f"{stub.address}/v1")]
        with chat_process(*flags, data_dir=tmp_path) as address:
            page = visit(address)
            page.get_by_role("tab", name="Compare").click()
            page.locator("#compare-prompt textarea").fill("compare")
            page.locator("#compare").click()
            expect(page.locator("#ballot")).to_be_visible()
            for letter in "AB":
                expect(page.locator(f"#answer-{letter}")).to_contain_text(TEXTS["tags"])
                expect(page.locator(f"#answer-{letter} .katex")).to_have_count(1)
