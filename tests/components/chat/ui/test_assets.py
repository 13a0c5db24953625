"""Style and HTML of the page."""

from __future__ import annotations

import re

from components.chat.ui.assets import CSS, as_json, table, theme


def test_a_table_escapes_its_texts():
    assert table(["a<b"], [["<script>", "x & y"]]) == (
        '<div class="wide"><table><thead><tr><th>a&lt;b</th></tr></thead><tbody>'
        "<tr><td>&lt;script&gt;</td><td>x &amp; y</td></tr></tbody></table></div>"
    )


def test_nothing_in_style_or_theme_is_loaded_from_another_host():
    assert "url(" not in CSS
    assert "@import" not in CSS
    assert theme()._font_css == []
    assert theme()._stylesheets == []


def test_json_keeps_letters_of_any_script():
    assert as_json({"ä": "שלום"}) == '{\n  "ä": "שלום"\n}'


def test_every_id_in_the_style_exists_on_the_page(view):
    ids = {block.elem_id for block in view.page.blocks.values() if getattr(block, "elem_id", None)}
    assert set(re.findall(r"#([a-z][\w-]*)[ .{,]", CSS)) <= ids
