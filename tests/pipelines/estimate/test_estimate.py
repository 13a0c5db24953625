"""A run and a sweep as a whole, and how they are shown."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from components.artifacts.contracts import BaseModelRef
from components.modeling.token_loss import Example
from pipelines.config.pools import Placement
from pipelines.config.recipe import Recipe
from pipelines.config.sweep import LoadedSweep, Sweep
from pipelines.estimate import steps
from pipelines.estimate.calibration import Calibration, Measured
from pipelines.estimate.estimate import Estimate, estimate_run, estimate_sweep
from pipelines.estimate.lengths import Data, SplitSample
from pipelines.estimate.machines import Machine, Place, Speed, place
from pipelines.estimate.table import as_json, lines_of, one_line, show_estimate
from tests.pipelines.estimate.conftest import SMOLLM2, write_header

HERE = Place("this machine", None, Machine("this machine", 2, 10**11, Speed(480e9, 18e9, 300e9, 0.6, "a test")))
PRICED = {"pools": {"t4": {"price_per_hour": 0.6}, "cpu": {"price_per_hour": 0.1}}, "currency": "EUR"}


@pytest.fixture(autouse=True)
def _short_rows(monkeypatch) -> None:
    row = (Example([1] * 60, [-100, 1] * 30),)
    train, held_out = SplitSample(700, (row,) * 50), SplitSample(40, (row,) * 40)
    monkeypatch.setattr(steps, "read_data", lambda *_: Data(train, held_out, held_out, 780, "50 of 700 training rows"))


@pytest.fixture
def base(tmp_path) -> BaseModelRef:
    return write_header(tmp_path / "base", SMOLLM2)


def recipe(**train: Any) -> Recipe:
    split = {"data": "d.jsonl", "validation_rows": 40}
    return Recipe.model_validate({"name": "r", "base_model": "b", "split": split, "train": train})


@pytest.fixture
def run(base, tmp_path) -> Callable[..., Estimate]:
    def estimated(at: Place = HERE, calibration: Calibration | None = None, **train: Any) -> Estimate:
        return estimate_run("r", recipe(**train), base, at, calibration or Calibration(), tmp_path)

    return estimated


@pytest.fixture
def sweep(base, tmp_path) -> Callable[..., Estimate]:
    """A sweep of four trials."""

    def estimated(at: Place = HERE, **settings: Any) -> Estimate:
        document = Sweep.model_validate({"name": "s", "recipe": "r", "grid": {"train.seed": [1]}, **settings})
        recipes = {f"trial-{n}": recipe(max_steps=50, seed=n, lora_rank=8 * n) for n in range(1, 5)}
        loaded = LoadedSweep(sweep=document, base=recipe(), settings={name: {} for name in recipes}, recipes=recipes)
        return estimate_sweep(loaded, lambda one: (one, base), at, Calibration(), tmp_path)

    return estimated


def step(estimate: Estimate, name: str) -> Any:
    return next(one for one in estimate.steps if one.step == name)


def test_a_run_has_every_step_and_its_sum(run):
    found = run()
    assert [one.step for one in found.steps] == [
        "split_data", "train_lora", "evaluate", "export_gguf", "evaluate_gguf", "gate", "publish_model",
    ]  # fmt: skip
    assert found.seconds.value == pytest.approx(sum(one.seconds.value for one in found.steps))
    assert found.seconds.low < found.seconds.value < found.seconds.high
    assert found.host_bytes == max((one.host_bytes for one in found.steps), key=lambda peak: peak.value)
    assert (found.cost, found.gpu_bytes, found.fits) == (None, None, True)


def test_twice_the_steps_take_twice_the_work(run):
    short, long = (step(run(max_steps=n), "train_lora").seconds.value for n in (500, 1000))
    assert 1.8 < long / short < 2.0


def test_minutes_are_bounded_where_the_recipe_bounds_them(run):
    assert step(run(max_steps=10**6, max_train_minutes=5), "train_lora").seconds.value < 6 * 60


def test_earlier_runs_correct_the_steps_and_are_counted(run):
    slow = Calibration(seconds=(Measured("train_lora", 134_515_008, 2.0),))
    corrected, plain = run(calibration=slow, max_steps=500), run(max_steps=500)
    ratio = step(corrected, "train_lora").seconds.value / step(plain, "train_lora").seconds.value
    assert 1.8 < ratio < 2.0
    assert corrected.n_runs == 1
    assert "minutes by 1 earlier trainings in the work folder" in lines_of(corrected)
    assert "by 1 earlier runs; its steps: lorry estimate" in one_line(corrected)


def test_a_pool_with_prices_has_costs_and_the_pods_their_start(run):
    found = run(place(Placement.model_validate(PRICED)), max_steps=1000)
    trained = step(found, "train_lora")
    assert trained.cost.value == pytest.approx(trained.seconds.value * 0.6 / 3600)
    assert found.cost.value == pytest.approx(
        trained.cost.value + sum(step(found, name).cost.value for name in ("evaluate", "export_gguf", "evaluate_gguf"))
    )
    assert step(found, "gate").seconds.value > 20
    assert "in all: " in lines_of(found)[0]
    assert ", EUR 0.0" in one_line(found)


def test_without_a_price_the_setting_is_named(run):
    assert lines_of(run(place(Placement())))[0].endswith("no cost: placement.pools.t4.price_per_hour is not set")


def test_early_stopping_is_noted(run):
    assert "train.early_stopping_patience may end training earlier" in run(early_stopping_patience=2).notes


def test_a_busy_machine_is_noted(run, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 1.0, 1.0))
    assert "this machine is busy (load 9.0 on 2 cores): a run takes longer meanwhile" in run().notes
    assert not any("busy" in note for note in run(place(Placement())).notes)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 9.0, 9.0))
    assert not any("busy" in note for note in run().notes)


def test_trials_run_one_after_another_here_and_side_by_side_on_a_cluster(sweep, run):
    here = sweep()
    one = step(run(max_steps=50), "train_lora").seconds.value
    assert step(here, "train_trial").seconds.value == pytest.approx(4 * one, rel=0.1)
    assert "trials: 4, 1 at a time; one that diverges ends earlier" in here.notes
    there = sweep(place(Placement.model_validate(PRICED)))
    four = step(there, "train_trial")
    assert "trials: 4, 4 at a time; one that diverges ends earlier" in there.notes
    assert four.cost.value == pytest.approx(4 * four.seconds.value * 0.6 / 3600)


def test_halving_trains_less(sweep):
    whole, halved = sweep(), sweep(halving={"reduction_factor": 2, "rungs": 2})
    assert step(halved, "train_trial").seconds.value < 0.9 * step(whole, "train_trial").seconds.value


def test_the_peak_of_a_sweep_is_that_of_its_largest_trial(sweep, run):
    assert step(sweep(), "train_trial").host_bytes == step(run(max_steps=50, lora_rank=32), "train_lora").host_bytes


def test_a_table_has_a_row_a_step_and_columns_for_what_is_known(run):
    file = io.StringIO()
    show_estimate(Console(file=file, width=140), run(place(Placement.model_validate(PRICED))))
    shown = file.getvalue()
    assert "r on pool t4" in shown
    assert all(heading in shown for heading in ("step", "minutes", "memory", "GPU memory", "cost"))
    assert "lengths: 50 of 700 training rows" in shown
    file = io.StringIO()
    show_estimate(Console(file=file, width=140), run())
    assert "GPU memory" not in file.getvalue()


def test_json_has_each_figure_with_its_bounds(run):
    found = as_json(run(place(Placement.model_validate(PRICED)), max_steps=10))
    low, value, high = found["seconds"]
    assert low < value < high
    assert (found["currency"], found["fits"], found["training_steps"]) == ("EUR", True, 10)
    assert set(found["file_bytes"]) == {"adapter", "checkpoints", "merged", "f16", "model", "disk"}
    assert [one["machine"] for one in found["steps"]][:3] == ["pool small", "pool t4", "pool t4"]
    assert found["steps"][0]["gpu_memory_bytes"] is None
