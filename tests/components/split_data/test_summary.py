"""The summary of a split: figures and examples."""

from __future__ import annotations

from typing import Any

import pytest

from components.artifacts.contracts import BaseModelRef
from components.modeling.base_model import folder_revision
from components.split_data import summary as module
from components.split_data.decontamination import build_index
from components.split_data.outcomes import OUTCOMES, SPLITS
from components.split_data.summary import Summary, summarize
from tests.components.split_data.corpora import assigned, config_of, prose, talk, with_changes
from tests.conftest import chat


def summary_of(folder: Any, rows: list[Any], **settings: Any) -> Summary:
    assignments = assigned(folder, rows, **settings)
    counts = {name: int((assignments.outcome == i).sum()) for i, name in enumerate(OUTCOMES)}
    config = config_of(**settings)
    return summarize(assignments, config, {"read": len(rows), **counts}, build_index(config.decontamination))


def test_a_summary_is_read_back_from_its_json(tmp_path):
    summary = summary_of(tmp_path, [talk(seed) for seed in range(6)], seed=3)
    assert summary.seed == 3
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


def test_a_source_has_its_usable_rows_and_those_in_splits(tmp_path):
    rows = [*[talk(seed) for seed in range(6)], talk(0), {"no": 1}]
    (source,) = summary_of(tmp_path, rows, train_rows=2, validation_rows=1, test_rows=1).sources
    assert (source.data, source.usable, source.in_splits) == ("rows.jsonl", 6, 4)


def test_dropped_rows_are_counted_by_kind_the_most_common_first_with_examples(tmp_path):
    rows = [talk(1), talk(2), talk(1), {"a": 1}, {"b": 1}]
    kinds = summary_of(tmp_path, rows).dropped
    assert [(kind.kind, kind.rows) for kind in kinds] == [("cannot be used", 2), ("exact duplicate", 1)]
    example = kinds[1].examples[0]
    assert (example.file, example.line, example.reason) == ("rows.jsonl", 3, "the same conversation as line 1")
    assert example.excerpt.startswith(talk(1)["messages"][0]["content"][:50])
    assert [example.line for example in kinds[0].examples] == [4, 5]


def test_examples_are_limited_and_counts_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_EXAMPLES", 2)
    (kind,) = summary_of(tmp_path, [talk(1), talk(2), *[{"a": 1}] * 5]).dropped
    assert (kind.rows, len(kind.examples)) == (5, 2)


def test_unused_rows_are_not_dropped(tmp_path):
    assert summary_of(tmp_path, [talk(seed) for seed in range(6)], train_rows=1).dropped == []


def test_the_largest_groups_of_near_duplicates_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_GROUPS", 2)
    rows = [talk(seed) for seed in range(4)]
    rows += [with_changes(talk(1), n) for n in (1, 2, 3)] + [with_changes(talk(2), n) for n in (1, 2)]
    rows += [with_changes(talk(3), 1)]
    near = summary_of(tmp_path, rows).near_duplicates
    assert (near.policy, near.groups, near.rows) == ("group", 3, 9)
    assert [[row.line for row in group] for group in near.largest] == [[2, 5, 6], [3, 8, 9]]
    assert near.largest[0][0].reason == "one of 4 rows"


@pytest.mark.parametrize("near", ["group", "keep"])
def test_without_near_duplicates_there_is_no_group(tmp_path, near):
    found = summary_of(tmp_path, [talk(1), talk(2)], duplicates={"near": near}).near_duplicates
    assert (found.policy, found.groups, found.rows, found.largest) == (near, 0, 0, [])


def test_lengths_are_counted_in_bars_of_half_an_octave(tmp_path):
    rows = [talk(seed, n_words) for seed, n_words in enumerate([21, 30, 60, 60, 100, 240])]
    lengths = summary_of(tmp_path, rows).lengths
    assert lengths.unit == "words"
    assert lengths.edges == sorted(set(lengths.edges))
    assert lengths.edges[0] <= 21
    assert lengths.edges[-1] > 240
    assert all(later / earlier < 1.6 for earlier, later in zip(lengths.edges, lengths.edges[1:], strict=False))
    assert {name: sum(counts) for name, counts in lengths.counts.items()} == {"train": 5, "validation": 1, "test": 0}
    assert set(lengths.mean) == set(lengths.percentile_95) == {"train", "validation"}
    total = lengths.mean["train"] * 5 + lengths.mean["validation"]
    assert total == pytest.approx(21 + 30 + 60 + 60 + 100 + 240, abs=0.5)


def test_rows_of_one_length_are_one_bar(tmp_path):
    lengths = summary_of(tmp_path, [chat(f"a{i}", f"b{i}") for i in range(4)]).lengths
    assert len([counts for counts in zip(*lengths.counts.values(), strict=True) if any(counts)]) == 1
    assert sum(sum(lengths.counts[name]) for name in SPLITS) == 4


def test_lengths_are_in_tokens_where_they_are_counted(tmp_path, tiny_base):
    base = BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)
    settings = {"base_model": base.model_dump(), "quality": {"max_tokens": 10_000}}
    lengths = summary_of(tmp_path, [talk(seed) for seed in range(3)], **settings).lengths
    assert lengths.unit == "tokens"
    assert lengths.mean["train"] > 60


def test_decontamination_has_its_files_texts_and_those_that_are_too_short(tmp_path):
    path = tmp_path / "benchmark.txt"
    path.write_text("Yes " + "\n\n" + " ".join(prose(20, 5)))
    summary = summary_of(tmp_path, [talk(1), talk(2)], decontamination={"files": [str(path)]})
    assert summary.decontamination_files == [str(path)]
    assert summary.decontamination_texts == 2
    assert summary.decontamination_texts_too_short == ["benchmark.txt, line 1: Yes"]
