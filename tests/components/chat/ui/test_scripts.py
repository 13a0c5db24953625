"""The scripts of events agree with the components that they are connected to."""

from __future__ import annotations

import json
import re

from components.chat.answering.comparing import LETTERS
from components.chat.ui import scripts


def dependency(view, script: str):
    """An event that runs a script."""
    return next(fn for fn in view.page.fns.values() if fn.js and script.strip() in str(fn.js))


def n_parameters(script: str) -> int:
    head = re.match(r"\s*\(([^)]*)\) =>", script)
    assert head is not None
    return len([name for name in head[1].split(",") if name.strip()])


def test_each_script_has_a_parameter_for_each_input(view):
    for script in (scripts.DRAW_REPLY, scripts.SAVE):
        assert len(dependency(view, script).inputs) == n_parameters(script)
    assert len(dependency(view, scripts.FOLLOW_MODEL).inputs) == n_parameters(scripts.FOLLOW_MODEL) - 1 + 3


def test_the_comparisons_script_returns_a_value_for_each_output(view):
    outputs = dependency(view, scripts.DRAW_COMPARISON).outputs
    n_others = 4
    assert len(outputs) == n_others + 3 * len(LETTERS)
    assert f"Array({n_others - 1} + 3 * {len(LETTERS)})" in scripts.DRAW_COMPARISON
    assert f'"{LETTERS}"' in scripts.DRAW_COMPARISON
    assert '["All the same", "tie"], ["None is good", "none"]' in scripts.DRAW_COMPARISON


def test_a_question_to_confirm_is_a_string_of_the_script():
    script = scripts.confirm('Delete "this"?')
    assert json.dumps('Delete "this"?') in script


def test_the_page_script_has_every_function_that_events_call():
    calls = set()
    for name in vars(scripts):
        if name.isupper() and isinstance(text := getattr(scripts, name), str) and name != "SCRIPT":
            calls |= set(re.findall(r"lorry\.(\w+)", text))
    assert calls >= {"follow", "unfollow", "send", "settle", "restore", "snapshots"}
    exported = scripts.SCRIPT[scripts.SCRIPT.index("window.lorry = {") :]
    assert all(re.search(rf"^    {name}[,:]", exported, re.MULTILINE) for name in calls)


def test_buttons_that_the_page_script_presses_exist(view):
    pressed = set(re.findall(r'press\("([\w-]+)"\)', scripts.SCRIPT)) | {"draw-answers", "draw-comparisons"}
    ids = {block.elem_id for block in view.page.blocks.values() if getattr(block, "elem_id", None)}
    assert pressed == {"relist", "reopen", "draw-answers", "draw-comparisons"}
    assert pressed <= ids
