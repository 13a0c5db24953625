"""The page of a split: everything of the summary, escaped, without outside references."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from components.split_data.report import write_page
from components.split_data.summary import (
    DroppedKind,
    ExampleRow,
    Lengths,
    NearDuplicates,
    SourceSummary,
    Summary,
)


def summary(**changes: Any) -> Summary:
    lengths = Lengths(
        unit="words",
        edges=[8, 11, 16],
        counts={"train": [3, 1], "validation": [0, 1], "test": [0, 0]},
        mean={"train": 9.5, "validation": 12.0},
        percentile_95={"train": 11.0, "validation": 12.0},
    )
    plain = Summary(
        seed=5,
        counts={"read": 1234, "train": 4, "validation": 1, "test": 0, "unused": 0, "dropped": 1229},
        sources=[SourceSummary(data="chats.jsonl", data_revision="abcdef" * 8, weight=None, usable=5, in_splits=5)],
        dropped=[],
        near_duplicates=NearDuplicates(policy="group", jaccard_threshold=0.8, groups=0, rows=0, largest=[]),
        decontamination_files=[],
        decontamination_texts=0,
        decontamination_texts_too_short=[],
        lengths=lengths,
    )
    return plain.model_copy(update=changes)


def page_of(folder: Path, own: Summary) -> str:
    write_page(str(folder / "report.html"), own)
    return (folder / "report.html").read_text(encoding="utf-8")


def example(**changes: Any) -> ExampleRow:
    return ExampleRow(**{"file": "a.jsonl", "line": 7, "reason": "why", "excerpt": "text", **changes})


def test_counts_source_and_seed_are_shown(tmp_path):
    page = page_of(tmp_path, summary())
    assert "1,234 rows read, seed 5" in page
    assert "<td>chats.jsonl</td><td>abcdefabcdef</td>" in page
    assert "99.6 %" in page


def test_nothing_comes_from_elsewhere(tmp_path):
    assert not re.search(r"(src|href)\s*=", page_of(tmp_path, summary()))


def test_texts_of_rows_are_escaped(tmp_path):
    bad = example(reason="<b>why</b>", excerpt="<script>alert(1)</script>")
    page = page_of(tmp_path, summary(dropped=[DroppedKind(kind="<i>", rows=1, examples=[bad])]))
    assert "<script>" not in page
    assert "<b>why" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_bars_are_shares_of_their_split_with_the_tallest_at_full_height(tmp_path):
    page = page_of(tmp_path, summary())
    heights = re.findall(r'<i class="(\w+)" style="height: ([\d.]+)%"', page)
    # Of train 3/4 and 1/4, of validation 0 and 1; the test split has no rows and no bars.
    assert heights == [("train", "75.0"), ("validation", "0.0"), ("train", "25.0"), ("validation", "100.0")]
    assert 'title="train, 8 to 11 words: 3 rows"' in page


def test_more_dropped_rows_than_examples_point_to_the_row_outcomes(tmp_path):
    page = page_of(tmp_path, summary(dropped=[DroppedKind(kind="leak", rows=1_229, examples=[example()])]))
    assert "a.jsonl line 7" in page
    assert "and 1,228 more, in the row outcomes" in page


@pytest.mark.parametrize(
    ("policy", "groups", "fact"),
    [
        ("keep", 0, "Not searched for"),
        ("group", 0, "None: no two rows share 80 % of their shingles"),
        ("group", 2, "Each group went into one split"),
        ("drop", 2, "The first row of each group was kept"),
    ],
)
def test_near_duplicates_are_described_by_their_policy(tmp_path, policy, groups, fact):
    largest = [[example(excerpt="twin"), example(line=8)]] if groups else []
    near = NearDuplicates(policy=policy, jaccard_threshold=0.8, groups=groups, rows=2 * groups, largest=largest)
    page = page_of(tmp_path, summary(near_duplicates=near))
    assert fact in page
    assert ("twin" in page) == bool(groups)


def test_decontamination_counts_the_texts_that_were_searched_for(tmp_path):
    page = page_of(
        tmp_path,
        summary(
            decontamination_files=["b.txt"],
            decontamination_texts=5,
            decontamination_texts_too_short=["b.txt, line 1: Yes"],
        ),
    )
    assert "Searched for 4 texts of\nb.txt" in page
    assert "b.txt, line 1: Yes" in page
    assert "Searched for" not in page_of(tmp_path, summary())


def test_moved_system_prompts_are_shown_only_where_there_are_some(tmp_path):
    assert "no system role: in 2,000 rows" in page_of(tmp_path, summary(moved_system=2000))
    assert "no system role" not in page_of(tmp_path, summary())


def test_weights_are_a_column_where_the_sources_have_them(tmp_path):
    sources = [
        SourceSummary(data=f"{i}.jsonl", data_revision=None, weight=weight, usable=9, in_splits=3)
        for i, weight in enumerate((3.0, 1.5))
    ]
    assert '<td class="n">1.5</td>' in page_of(tmp_path, summary(sources=sources))
    assert ">weight<" not in page_of(tmp_path, summary())
