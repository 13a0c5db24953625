"""The perplexity of answers under the base model."""

from __future__ import annotations

import logging
import math
import sys

import pytest

from components.artifacts.contracts import BaseModelRef, Message, Row
from components.errors import DataError
from components.modeling.base_model import folder_revision
from components.split_data import perplexity as module
from components.split_data.perplexity import perplexities


@pytest.fixture
def base(tiny_base) -> BaseModelRef:
    return BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)


def row(*texts: str) -> Row:
    roles = ("user", "assistant")
    return Row(id="0" * 32, messages=[Message(role=roles[i % 2], content=text) for i, text in enumerate(texts)])


ROWS = [row("One?", "Two."), row("a", "b", "c", "d"), row("Why?", "zq xj " * 9)]


def test_every_row_has_one_perplexity_that_follows_from_the_row_alone(base):
    together = perplexities(base, ROWS)
    assert len(together) == 3
    assert all(math.isfinite(value) and value > 1 for value in together)
    assert [perplexities(base, [one])[0] for one in ROWS] == pytest.approx(together, rel=1e-4)


def test_rows_are_measured_in_blocks_with_their_progress(base, monkeypatch, caplog):
    expected = perplexities(base, ROWS)
    caplog.clear()
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)
    caplog.set_level(logging.INFO, logger=module.__name__)
    assert perplexities(base, ROWS) == pytest.approx(expected, rel=1e-4)
    assert [record.getMessage() for record in caplog.records] == [
        "row 2/3 perplexity measured", "row 3/3 perplexity measured",
    ]  # fmt: skip


def test_no_rows_have_no_perplexities(base):
    assert perplexities(base, []) == []


def test_without_torch_it_says_where_the_step_runs(base, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DataError, match=r"need torch, which is not installed here; run the step in the train image"):
        perplexities(base, ROWS)
