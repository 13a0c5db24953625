"""The whole split: the files that it writes, for rows of several files, sources and formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import BaseModelRef
from components.errors import DataError
from components.modeling.base_model import folder_revision
from components.split_data import process_pool
from components.split_data.config import SplitConfig
from components.split_data.outcomes import SPLITS
from components.split_data.sources import data_folder_revision
from components.split_data.split import dry_run
from tests.components.split_data.corpora import prose, talk, with_changes
from tests.conftest import CHATS, SplitResult, chat, chat_rows, split_data, split_rows, write_jsonl

SIZES = {"validation_rows": 2, "test_rows": 2}


def config(data: Path | str, **settings: Any) -> SplitConfig:
    return SplitConfig.model_validate({"data": str(data), **SIZES, **settings})


def few(n: int = 6) -> list[Any]:
    return [chat(f"question {i}", f"answer {i}") for i in range(n)]


@pytest.fixture(autouse=True)
def one_process(monkeypatch) -> None:
    """Starting processes takes seconds, and one test below has several."""
    monkeypatch.setattr(process_pool, "n_usable_processes", lambda: 1)


def all_ids(result: SplitResult) -> list[str]:
    return [row.id for name in SPLITS for row in result.rows(name)]


def test_counts_add_up_and_every_record_has_one_outcome(tmp_path):
    rows = [*few(20), chat("question 3", "answer 3"), {"no": 1}]
    result = split_rows(tmp_path, rows, train_rows=10, **SIZES)
    assert result.counts == {"read": 22, "train": 10, "validation": 2, "test": 2, "unused": 6, "dropped": 2}
    assert [row["line"] for row in result.outcomes()] == list(range(1, 23))


def test_the_row_files_have_the_rows_of_their_outcomes_in_the_order_of_the_data(tmp_path):
    result = split_rows(tmp_path, [*few(12), {"no": 1}, *few(3)], train_rows=4, **SIZES)
    for name in SPLITS:
        ids = [row["id"] for row in result.outcomes() if row["outcome"] == name]
        assert [row.id for row in result.rows(name)] == ids
    assert len(set(all_ids(result))) == len(all_ids(result)) == 8


def test_a_row_outcome_has_no_empty_keys(tmp_path):
    result = split_rows(tmp_path, [*few(), {"no": 1}], **SIZES)
    assert set(result.outcomes()[0]) == {"file", "line", "outcome", "id"}
    assert result.outcomes()[-1] == {
        "file": "rows.jsonl", "line": 7, "outcome": "dropped", "kind": "cannot be used",
        "reason": "has no 'messages' key (its keys: no)",
    }  # fmt: skip


def test_the_same_seed_gives_the_same_split_and_another_seed_another(tmp_path):
    rows = chat_rows(60)
    first, again = (split_rows(tmp_path / str(i), part, **SIZES) for i, part in enumerate((rows, rows[::-1])))
    other_seed = split_rows(tmp_path / "seed", rows, seed=1, **SIZES)
    assert all(first.ids(name) == again.ids(name) for name in SPLITS)
    assert first.ids("validation") != other_seed.ids("validation")


def test_appended_rows_leave_most_others_in_their_split(tmp_path):
    before, after = (
        split_rows(tmp_path / str(n), chat_rows(n), validation_rows=10, test_rows=10).ids("validation")
        for n in (100, 110)
    )
    assert len(before & after) >= 6


def test_broken_lines_are_dropped_and_the_rest_is_used(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [*few(5), "{broken"])
    path.write_bytes(path.read_bytes() + b'{"messages": "\xff"}\n')
    with path.open("a") as file:
        file.write("[" * 100_000 + "\n" + "x" * 3_000_000 + "\n" + json.dumps(chat("after", "all")) + "\n")
    result = split_data(tmp_path / "out", config(path))
    assert sorted(result.reasons()) == [6, 7, 8, 9]
    assert result.counts["read"] == 10
    assert "after" in {row.messages[0].content for name in SPLITS for row in result.rows(name)}


def test_the_folders_files_are_named_in_outcomes_and_reasons(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_jsonl(folder / "b.jsonl", chat_rows(8)[4:])
    (folder / "a.json").write_text(json.dumps(chat_rows(4)))
    write_jsonl(folder / "c.jsonl", [chat_rows(1)[0]])
    result = split_data(tmp_path / "out", config(folder, data_revision=data_folder_revision(folder)))
    assert [(row["file"], row["line"]) for row in result.outcomes()] == [
        *(("a.json", line) for line in range(1, 5)),
        *(("b.jsonl", line) for line in range(1, 5)),
        ("c.jsonl", 1),
    ]
    assert result.outcomes()[-1]["reason"] == "the same conversation as a.json line 1"


def test_sources_are_mixed_by_their_weights_and_none_is_repeated(tmp_path):
    paths = [
        write_jsonl(tmp_path / f"{i}.jsonl", [chat(f"{i} {j}", "a") for j in range(n)]) for i, n in enumerate((30, 90))
    ]
    sources = [{"data": str(path), "weight": weight} for path, weight in zip(paths, (3, 1), strict=True)]
    result = split_data(tmp_path / "out", SplitConfig.model_validate({"sources": sources, "validation_rows": 4}))
    assert [source.in_splits for source in result.summary().sources] == [30, 10]
    unused = [row for row in result.outcomes() if row["outcome"] == "unused"]
    assert len(unused) == 80
    assert {(row["file"], row["reason"]) for row in unused} == {("1.jsonl", "the source's weight leaves it out")}


def test_sources_may_each_have_a_format_and_a_limit_of_their_own(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", few(10))
    second = write_jsonl(tmp_path / "b.jsonl", [{"instruction": f"i{i}", "output": "o"} for i in range(10)])
    sources = [{"data": str(first)}, {"data": str(second), "limit": 3}]
    result = split_data(tmp_path / "out", SplitConfig.model_validate({"sources": sources, "validation_rows": 4}))
    assert result.counts == {"read": 13, "train": 9, "validation": 4, "test": 0, "unused": 0, "dropped": 0}


def test_a_split_of_several_sources_that_is_refused_names_them_all(tmp_path):
    first, second = (write_jsonl(tmp_path / f"{name}.jsonl", [{"a": 1}]) for name in "ab")
    sources = [{"data": str(first)}, {"data": str(second)}]
    with pytest.raises(DataError, match=r"a\.jsonl \+ .*b\.jsonl: none of its 2 rows can be used"):
        split_data(tmp_path / "out", SplitConfig.model_validate({"sources": sources, "validation_rows": 1}))


def test_splits_may_be_fractions(tmp_path):
    result = split_rows(tmp_path, chat_rows(100), validation_fraction=0.1, test_fraction=0.2, train_fraction=0.5)
    assert [result.counts[name] for name in ("train", "validation", "test", "unused")] == [50, 10, 20, 20]


def test_every_split_has_the_same_lengths(tmp_path):
    rows = [talk(i, 25 if i % 2 else 250) for i in range(200)]
    result = split_rows(tmp_path, rows, validation_rows=20, test_rows=20)
    for name in SPLITS:
        lengths = [sum(len(message.content.split()) for message in row.messages) for row in result.rows(name)]
        assert sum(length < 100 for length in lengths) == len(lengths) / 2


def test_near_duplicates_are_in_one_split_and_the_summary_counts_them(tmp_path):
    rows = [talk(i) for i in range(40)]
    rows += [with_changes(row, 1 + i % 3) for i, row in enumerate(rows)]
    result = split_rows(tmp_path, rows, validation_rows=20, test_rows=20)
    outcome = {row["line"]: row["outcome"] for row in result.outcomes()}
    assert all(outcome[line] == outcome[line + 40] for line in range(1, 41))
    near = result.summary().near_duplicates
    assert (near.groups, near.rows) == (40, 80)
    assert [result.counts[name] for name in SPLITS] == [40, 20, 20]


def test_a_benchmark_text_that_is_wrapped_or_in_other_characters_is_found(tmp_path):
    passage = prose(30, 7)
    wrapped = "\n".join(" ".join(passage[i : i + 8]) for i in range(0, 30, 8))
    (tmp_path / "benchmark.txt").write_text(wrapped.replace("a", "\uff41"))
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("- {name: a, turns: [What is a lorry good for?]}\n")
    rows = [*few(), chat("so", " ".join(passage)), chat("What is a LORRY good for?", "Cargo.")]
    files = [str(tmp_path / "benchmark.txt"), str(prompts)]
    result = split_rows(tmp_path, rows, decontamination={"files": files}, **SIZES)
    assert result.reasons() == {
        7: "shares 13 words in a row with benchmark.txt, line 1",
        8: "is the same text as prompts.yaml, text 2",
    }


def test_rows_outside_the_bounds_of_perplexity_are_dropped_by_the_base_model(tmp_path, tiny_base):
    base = BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)
    settings = {"base_model": base.model_dump(), **SIZES}
    everything = split_rows(tmp_path / "all", few(), quality={"min_perplexity": 1.001}, **settings)
    assert everything.counts["dropped"] == 0
    with pytest.raises(DataError, match="but only 0 of 6 rows can be used"):
        split_rows(tmp_path / "none", few(), quality={"max_perplexity": 2}, **settings)


def test_the_report_has_the_dropped_rows_and_the_figures_of_the_summary(tmp_path):
    rows = [*chat_rows(10), {"x": "<script>alert(1)</script>"}, chat_rows(1)[0]]
    result = split_rows(tmp_path, rows, **SIZES)
    page = Path(result.outputs.report).read_text()
    assert "12 rows read" in page
    assert "<script>" not in page
    assert "the same conversation as line 1" in page
    summary = result.summary()
    assert summary.counts == result.counts
    assert {kind.kind: kind.rows for kind in summary.dropped} == {"cannot be used": 1, "exact duplicate": 1}
    assert all(sum(summary.lengths.counts[name]) == result.counts[name] for name in SPLITS)


def test_many_rows_are_processed_in_several_processes_with_the_same_result(tmp_path, monkeypatch):
    rows = [talk(i, 30) for i in range(2_100)]
    alone = split_rows(tmp_path / "alone", rows, validation_rows=40, test_rows=40)
    monkeypatch.setattr(process_pool, "n_usable_processes", lambda: 2)
    together = split_rows(tmp_path / "several", rows, validation_rows=40, test_rows=40)
    assert together.outcomes() == alone.outcomes()
    assert together.rows("train") == alone.rows("train")


def test_a_dry_run_refuses_what_a_split_refuses_and_writes_nothing(tmp_path):
    good = write_jsonl(tmp_path / "good.jsonl", few())
    dry_run(config(good))
    with pytest.raises(DataError, match="asks for 20 rows"):
        dry_run(config(good, train_rows=16))
    with pytest.raises(DataError, match=r"b\.txt: no such file"):
        dry_run(config(good, decontamination={"files": [str(tmp_path / "b.txt")]}))
    assert [path.name for path in tmp_path.iterdir()] == ["good.jsonl"]


def test_every_shipped_row_can_be_used(tmp_path):
    result = split_data(tmp_path, config(CHATS))
    assert result.counts["read"] >= 300
    assert result.counts["dropped"] == 0
    assert sum(len(row.messages) > 2 for row in result.rows("train")) > 20
