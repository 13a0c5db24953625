"""Trials: a failure by the trial's own doing is a result, and a later rung goes on from an earlier one's checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from components.artifacts.contracts import RunRecord, Trial
from components.compare_runs.run_files import read_run
from components.errors import BusyError, DivergedError
from components.modeling.token_loss import TokenLoss
from components.promote_trials.config import HalvingConfig
from components.promote_trials.promote import promote
from components.train_lora import checkpoints
from components.train_lora.config import TrainConfig
from components.train_lora.history import History
from components.train_lora.run import Run
from components.train_lora.train import train
from components.train_trial.trial import run_trial
from tests.components.train_lora.training import SETTINGS, losses, run, weights


def trial(base, rows: Path, folder: Path, name: str = "t", fraction: float = 1.0, **settings: Any) -> RunRecord:
    return run_trial(
        Trial(name=name, settings=settings, data=["data.jsonl"], recipe={}),
        TrainConfig.model_validate({**SETTINGS, **settings}),
        base,
        fraction=fraction,
        code="test",
        checkpoint_root=str(folder / "checkpoints"),
        train_path=str(rows / "train"),
        validation_path=str(rows / "validation"),
        record_path=str(folder / "records" / name),
    )


@pytest.fixture
def in_this_process(monkeypatch):
    """Training where a test can reach into it."""
    monkeypatch.setattr("components.train_trial.trial.train_supervised", train)


def test_a_rung_stops_with_a_validation_and_the_next_goes_on_to_the_bytes_of_an_undisturbed_run(
    base, rows, tmp_path, undisturbed
):
    first = trial(base, rows, tmp_path, fraction=0.5)
    assert (first.steps, first.stopped_by, first.status) == (3, "stop_after_fraction", "finished")
    assert first.final_eval_loss is not None
    folder = tmp_path / "records" / "t"
    assert {path.name for path in folder.iterdir()} == {"history.jsonl", "run.json", "trial.json"}
    assert read_run(folder).stopped_early

    last = trial(base, rows, tmp_path)
    assert (last.steps, last.run_key, last.stopped_by) == (6, first.run_key, "steps")
    run(base, rows, tmp_path)  # the same recipe by itself: it trains nothing, and writes the adapter
    assert weights(tmp_path) == weights(undisturbed)
    own = [entry for entry in losses(tmp_path) if entry[0] != 3 or entry[1] is not None]  # the rung's own validation
    assert own == losses(undisturbed)


def test_a_trial_that_diverges_is_a_record_and_ends_well(base, rows, tmp_path):
    record = trial(base, rows, tmp_path, "hot", learning_rate=1e30, lr_scheduler_type="constant")
    assert record.status == "diverged"
    assert "training diverged" in record.reason
    assert "lower train.learning_rate" in record.reason
    assert record.final_eval_loss is None
    found = read_run(tmp_path / "records" / "hot")
    assert (found.status, found.loss, found.steps) == ("diverged", None, record.steps)
    assert found.base_loss is not None


def test_the_same_settings_in_a_run_by_itself_are_an_error(base, rows, tmp_path):
    with pytest.raises(DivergedError, match=r"training diverged: .*; lower train\.learning_rate"):
        run(base, rows, tmp_path, learning_rate=1e30, lr_scheduler_type="constant")


def test_a_model_whose_gradients_died_has_diverged_though_its_losses_are_numbers(base, rows, tmp_path):
    history = History(tmp_path / "history.jsonl", None, writes=False)
    for step in range(1, 5):
        history.add(step=step, loss=7.6, grad_norm=0.0)
        history.add(step=step, eval_loss=7.6)
        assert history.has_stopped_learning() == (step > 1)
    history.add(step=5, loss=7.6, grad_norm=1e-9)
    history.add(step=5, eval_loss=7.6)
    assert not history.has_stopped_learning()


@pytest.mark.parametrize(("losses", "status"), [((6.0, 5.0, 13.0), "finished"), ((6.0, 7.0, 13.0), "diverged")])
def test_a_validation_loss_far_above_the_bases_is_divergence_where_none_was_below(
    base, rows, tmp_path, monkeypatch, in_this_process, losses, status
):
    def measure(self):
        return TokenLoss(losses[self.state.global_step // 3], 10)

    monkeypatch.setattr("components.train_lora.trainer.LoraTrainer._measure", measure)
    assert trial(base, rows, tmp_path, eval_steps=3).status == status


def test_validation_that_rises_while_training_learns_is_no_divergence(
    base, rows, tmp_path, monkeypatch, in_this_process
):
    def measure(self):
        return TokenLoss(6.0 + 0.1 * self.state.global_step, 10)

    monkeypatch.setattr("components.train_lora.trainer.LoraTrainer._measure", measure)
    assert run(base, rows, tmp_path, max_steps=24, eval_steps=8, learning_rate=0.03).status == "finished"


def test_a_trial_without_memory_is_a_record_too(base, rows, tmp_path, monkeypatch, in_this_process):
    def out_of_memory(self):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Run, "train", out_of_memory)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: type("Device", (), {"total_memory": 16_000_000_000})()
    )
    record = trial(base, rows, tmp_path)
    assert record.status == "out_of_memory"
    assert "set train.per_device_train_batch_size 1" in record.reason
    assert record.trainable_parameters is None


def test_what_is_not_of_the_trials_doing_is_an_error(base, rows, tmp_path):
    key = trial(base, rows, tmp_path, fraction=0.5).run_key
    with checkpoints.lock_run(tmp_path / "checkpoints" / key), pytest.raises(BusyError):
        trial(base, rows, tmp_path)


def item(name: str) -> dict[str, Any]:
    return {"trial": {"name": name}, "train": {}}


def write_record(folder: Path, template: Path, name: str, loss: float, **changes: Any) -> str:
    """A record like that in ``template`` with another loss."""
    folder = folder / name
    folder.mkdir(parents=True)
    record = json.loads((template / "run.json").read_text())
    record |= {"adapter_step": 6, "steps": 6, "max_steps": 6, "status": "finished", **changes}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "history.jsonl").write_text(json.dumps({"step": 6, "eval_loss": loss}) + "\n")
    (folder / "trial.json").write_text(Trial(name=name, settings={}, data=[], recipe={}).model_dump_json())
    return str(folder)


def test_the_best_of_each_set_of_rows_go_on_and_earlier_records_stay(undisturbed, tmp_path):
    template = undisturbed / "adapter"
    given = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 4.0}
    records = [write_record(tmp_path / "rung", template, name, loss) for name, loss in given.items()]
    records.append(write_record(tmp_path / "rung", template, "bad", 0.1, status="diverged", reason="nan"))
    records.append(write_record(tmp_path / "rung", template, "other", 9.0, validation_fingerprint="other rows"))
    earlier = tmp_path / "earlier"
    write_record(earlier, template, "gone", 5.0)
    chosen = promote(
        [item(name) for name in (*given, "bad", "other")],
        fraction=1.0,
        reduction_factor=2,
        record_paths=records,
        earlier_path=str(earlier),
        runs_path=str(tmp_path / "runs"),
    )
    assert [one["trial"]["name"] for one in chosen] == ["a", "b", "c", "other"]  # 3 of 5, and the only one of its rows
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {*given, "bad", "other", "gone"}


def test_a_trial_that_was_trained_farther_before_is_judged_at_the_rungs_step(undisturbed, tmp_path):
    template = undisturbed / "adapter"
    far = Path(write_record(tmp_path, template, "far", 1.0))
    entries = [{"step": 3, "eval_loss": 3.0}, {"step": 6, "eval_loss": 1.0}]
    (far / "history.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    near = Path(write_record(tmp_path, template, "near", 2.0, steps=3, stopped_by="stop_after_fraction"))
    (near / "history.jsonl").write_text(json.dumps({"step": 3, "eval_loss": 2.0}) + "\n")
    chosen = promote(
        [item("far"), item("near")],
        fraction=0.5,
        reduction_factor=2,
        record_paths=[str(far), str(near)],
        earlier_path=None,
        runs_path=str(tmp_path / "runs"),
    )
    assert [one["trial"]["name"] for one in chosen] == ["near"]


def test_where_every_trial_failed_one_is_left_for_the_next_rung(undisturbed, tmp_path):
    template = undisturbed / "adapter"
    bad = {"status": "diverged", "reason": "nan"}
    records = [write_record(tmp_path, template, name, 1.0, **bad) for name in ("a", "b")]
    chosen = promote(
        [item("a"), item("b")],
        fraction=0.5,
        reduction_factor=2,
        record_paths=records,
        earlier_path=None,
        runs_path=str(tmp_path / "runs"),
    )
    assert [one["trial"]["name"] for one in chosen] == ["a"]


def test_rungs_have_growing_shares_and_the_last_is_whole():
    assert HalvingConfig().fractions == pytest.approx([1 / 9, 1 / 3, 1.0])
    assert HalvingConfig(reduction_factor=2, rungs=2).fractions == [0.5, 1.0]
