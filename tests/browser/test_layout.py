"""A real Chromium on how answers are rendered, on a phone, and by keyboard alone."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.actions import answered, answers, ask, state

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
