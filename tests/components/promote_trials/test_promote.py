"""Successive halving: the trials that are continued, and the records that are kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.compare_runs.run_files import read_run
from components.promote_trials.config import HalvingConfig
from components.promote_trials.promote import promote
from tests.components.compare_runs.runs import a_record, a_trial, write_run
from tests.properties import quick


def write(folder: Path, name: str, *losses: float, **changes: Any) -> str:
    """The record of a trial that was validated after 10, 20, … of 40 steps."""
    history = [{"step": 10 * i, "eval_loss": loss} for i, loss in enumerate(losses, start=1)]
    record = a_record(**{"max_steps": 40, "steps": 10 * len(losses), **changes})
    return str(write_run(folder / "records" / name, record, history=history, trial=a_trial(name)))


def promoted(
    folder: Path, paths: list[str], *, fraction: float = 0.25, factor: int = 2, earlier: Path | None = None
) -> list[str]:
    trials = [{"trial": {"name": Path(path).name}} for path in paths]
    chosen = promote(
        trials,
        fraction=fraction,
        reduction_factor=factor,
        record_paths=paths,
        earlier_path=None if earlier is None else str(earlier),
        runs_path=str(folder / "runs"),
    )
    return [item["trial"]["name"] for item in chosen]


@pytest.mark.parametrize(("factor", "chosen"), [(2, ["a", "c"]), (3, ["a", "c"]), (4, ["a"]), (9, ["a"])])
def test_one_in_so_many_is_continued_rounded_up_in_the_order_given(tmp_path, factor, chosen):
    losses = {"c": 1.1, "b": 1.4, "a": 1.0, "d": 1.2}
    paths = [write(tmp_path, name, losses[name]) for name in "abcd"]
    assert promoted(tmp_path, paths, factor=factor) == chosen


def test_losses_of_other_rows_compete_among_themselves(tmp_path):
    paths = [write(tmp_path, name, loss) for name, loss in (("a", 1.0), ("b", 1.1))]
    paths += [write(tmp_path, name, loss, validation_fingerprint="w" * 64) for name, loss in (("c", 5.0), ("d", 6.0))]
    assert promoted(tmp_path, paths) == ["a", "c"]


def test_a_trial_that_was_trained_farther_is_judged_at_the_rungs_share(tmp_path):
    paths = [write(tmp_path, "far", 2.0, 1.0, 0.5), write(tmp_path, "near", 1.5)]
    assert promoted(tmp_path, paths) == ["near"]
    assert promoted(tmp_path, paths, fraction=0.75) == ["far"]


def test_a_trial_that_failed_is_not_continued_unless_all_did(tmp_path):
    failed = write(tmp_path, "hot", 0.1, status="diverged")
    assert promoted(tmp_path, [failed, write(tmp_path, "a", 9.0)]) == ["a"]
    assert promoted(tmp_path, [failed, write(tmp_path, "b", 0.1, status="out_of_memory")]) == ["hot"]


def test_the_records_are_kept_over_those_of_earlier_rungs(tmp_path):
    earlier = tmp_path / "earlier"
    write_run(earlier / "a", a_record(steps=10), trial=a_trial("a"))
    write_run(earlier / "dropped", a_record(steps=10), trial=a_trial("dropped"))
    (earlier / "a" / "old.txt").write_text("of the earlier rung")
    promoted(tmp_path, [write(tmp_path, "a", 1.0, 0.9)], earlier=earlier)
    runs = tmp_path / "runs"
    assert {path.name: read_run(path).steps for path in runs.iterdir()} == {"a": 20, "dropped": 10}
    assert not (runs / "a" / "old.txt").exists()


def test_the_log_has_each_trials_loss_and_what_becomes_of_it(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    paths = [write(tmp_path, "a", 1.0), write(tmp_path, "b", 1.5), write(tmp_path, "hot", 1.0, status="diverged")]
    promoted(tmp_path, paths)
    assert [record.getMessage() for record in caplog.records] == [
        "trial a: loss 1.0000 at 25 % of its steps, is continued",
        "trial b: loss 1.5000 at 25 % of its steps, is continued",
        "trial hot: loss unknown at 25 % of its steps, is stopped (diverged)",
    ]
    caplog.clear()
    promoted(tmp_path, paths[:1], fraction=1.0)
    assert caplog.records[0].getMessage().endswith("is complete")


@quick
@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=6, unique=True), st.integers(2, 4))
def test_no_trial_that_is_left_has_a_lower_loss_than_one_that_is_continued(tmp_path_factory, losses, factor):
    folder = tmp_path_factory.mktemp("rung")
    names = {f"t{i}": loss for i, loss in enumerate(losses)}
    chosen = promoted(folder, [write(folder, name, loss) for name, loss in names.items()], factor=factor)
    assert len(chosen) == -(-len(losses) // factor)
    left = [names[name] for name in names.keys() - set(chosen)]
    assert all(names[name] < min(left, default=10) for name in chosen)


@pytest.mark.parametrize(
    ("factor", "rungs", "fractions"), [(3, 3, [1 / 9, 1 / 3, 1]), (2, 2, [0.5, 1]), (4, 3, [1 / 16, 0.25, 1])]
)
def test_each_rung_has_so_many_times_the_steps(factor, rungs, fractions):
    config = HalvingConfig(reduction_factor=factor, rungs=rungs)
    assert config.fractions == pytest.approx(fractions)


@pytest.mark.parametrize("settings", [{"reduction_factor": 1}, {"rungs": 1}, {"rungs": 7}, {"factor": 3}])
def test_halving_without_a_reduction_is_refused(settings):
    with pytest.raises(ValidationError):
        HalvingConfig(**settings)
