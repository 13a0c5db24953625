"""`lorry sweep`: what a sweep says when it is wrong, and a small one from its document to its table."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from components.compare_runs.compare import Comparison
from components.errors import RecipeError
from components.storage.store import Store
from pipelines.config.recipe import RECIPES, load_recipe
from pipelines.config.steps import SWEEP_STEPS
from pipelines.config.sweep import load_sweep
from pipelines.graph.sweep import compile_sweep
from pipelines.resolve.trials import resolve_sweep
from tests.buckets import s3_server
from tests.conftest import ROOT, chat_rows, recipe_text, run_lorry, write_jsonl
from tests.pipelines.cluster.kubeflow_stand_in import StandIn, kubeflow

GRID = """\
name: grid
recipe: recipe.yaml
grid:
  train.learning_rate: [0.001, 0.01]
  train.lora_rank: [2, 4]
"""


@pytest.fixture
def recipe(tiny_base, tmp_path) -> Path:
    data = write_jsonl(tmp_path / "data.jsonl", chat_rows(24))
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(tiny_base, data))
    return path


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def problem(folder: Path, text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_sweep(write(folder, text))
    return str(caught.value)


@pytest.mark.parametrize("sweep", sorted((RECIPES / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_is_valid(sweep):
    loaded = load_sweep(sweep)
    assert loaded.sweep.name == sweep.stem
    assert len(loaded.recipes) > 1


def test_a_grid_is_every_combination(recipe, tmp_path):
    loaded = load_sweep(write(tmp_path, GRID))
    assert list(loaded.recipes) == [
        f"learning_rate={rate},lora_rank={rank}" for rate in ("0.001", "0.01") for rank in (2, 4)
    ]
    last = loaded.recipes["learning_rate=0.01,lora_rank=4"]
    assert (last.train.learning_rate, last.train.lora_rank, last.train.max_steps) == (0.01, 4, 6)


def test_a_list_sets_any_key_and_paths_begin_at_the_sweep(recipe, tmp_path):
    (tmp_path / "sweeps").mkdir()
    other = write_jsonl(tmp_path / "sweeps" / "other.jsonl", chat_rows(12))
    text = (
        "name: list\nrecipe: ../recipe.yaml\nset:\n  train.max_steps: 3\ntrials:\n"
        "  - {name: plain}\n  - {name: data, split.data: other.jsonl, base_model: unsloth/Llama-3.2-3B-Instruct}\n"
    )
    loaded = load_sweep(write(tmp_path / "sweeps", text))
    assert loaded.recipes["plain"].split.data == str(tmp_path / "data.jsonl")
    assert loaded.recipes["data"].split.data == str(other)
    assert loaded.recipes["data"].base_model == "unsloth/Llama-3.2-3B-Instruct"
    assert loaded.settings["plain"] == {"train.max_steps": 3}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("train.lora_rank", "train.lora_rnak"), "line 5: train.lora_rnak: unknown key; did you mean lora_rank?"),
        (("train.lora_rank", "trian.lora_rank"), "line 5: trian.lora_rank: unknown key; did you mean train?"),
        (
            ("train.lora_rank: [2, 4]", "export.quantization: [Q8_0, Q4_K_M]"),
            "line 5: export.quantization: changes nothing that a sweep measures: trials split and train; set it in the",
        ),
        (("[2, 4]", "[]"), "a sweep of no runs: grid.train.lora_rank has no values; add some, such as grid:"),
        (
            ("[2, 4]", "[2, 2]"),
            "=0.001,lora_rank=2-1' and 'learning_rate=0.001,lora_rank=2-2' take the same steps",
        ),
        (("train.lora_rank: [2, 4]", "train: [{lora_rank: 4}]"), "line 5: train: is a whole section, whose other"),
        (
            ("train.lora_rank: [2, 4]", "train.checkpoint: [best, final]"),
            "take the same steps, whatever they are",
        ),
        (("[2, 4]", "[0]"), "train.lora_rank = 0: Input should be greater than 0"),
        (("name: grid\n", ""), "line 1: name: missing; add it"),
        (("recipe.yaml", "nowhere.yaml"), "nowhere.yaml: no such recipe file"),
        (("grid:", "halving: {rung: 3}\ngrid:"), "line 3: halving.rung: unknown key; did you mean rungs?"),
        (("grid:", "halving: {rungs: 1}\ngrid:"), "line 3: halving.rungs = 1: input should be greater than or equal"),
    ],
)
def test_each_mistake_is_said_with_its_place(recipe, tmp_path, change, told):
    assert told in problem(tmp_path, GRID.replace(*change))


def test_a_sweep_of_no_runs_is_an_error(recipe, tmp_path):
    text = GRID.partition("grid:")[0]
    assert "a sweep of no runs: it has neither grid nor trials; add some" in problem(tmp_path, text)
    assert "has both grid and trials" in problem(tmp_path, GRID + "trials:\n  - {train.seed: 1}\n")


def test_two_trials_that_are_the_same_run_are_an_error(recipe, tmp_path):
    text = GRID.partition("grid:")[0] + "trials:\n  - {name: a, train.seed: 0}\n  - {name: b}\n"
    assert "trials 'a' and 'b' take the same steps, whatever they are called and wherever" in problem(tmp_path, text)


def test_a_wrong_value_in_a_list_is_said_with_its_line(recipe, tmp_path):
    text = GRID.partition("grid:")[0] + "trials:\n  - {name: a}\n  - {name: b, train.learning_rate: fast}\n"
    assert "line 5: trial b: train.learning_rate = 'fast': Input should be a valid number" in problem(tmp_path, text)


def test_sweeps_and_recipes_are_told_apart(recipe, tmp_path):
    sweep = write(tmp_path, GRID)
    assert f"{sweep}: fine, 4 trials; run it with: lorry sweep" in run_lorry("check", sweep).stdout
    assert f"{sweep}: is a sweep, not a recipe; run it with: lorry sweep" in run_lorry("run", sweep).stderr
    assert f"{recipe}: is a recipe, not a sweep; run it with: lorry run" in run_lorry("sweep", recipe).stderr


def test_a_missing_sweep_names_the_shipped_ones(tmp_path):
    with pytest.raises(RecipeError, match=r"no such sweep file; shipped sweeps in .*sweeps: .*demo"):
        load_sweep(tmp_path / "nothing.yaml")


def test_too_many_trials_for_one_parameter_are_refused_in_words(recipe, tmp_path):
    loaded = load_sweep(write(tmp_path, GRID.replace("[2, 4]", str(list(range(1, 80))))))
    with pytest.raises(RecipeError, match=r"158 trials take \d+ bytes as one parameter of the pipeline, which holds"):
        resolve_sweep(loaded, tmp_path, lambda _: None, check_bases=lambda uses: None, relocate=lambda given: given)


def test_the_document_runs_trials_side_by_side_and_names_images(tmp_path, monkeypatch):
    from pipelines.config.pools import Placement

    path = tmp_path / "sweep.yaml"
    compile_sweep(path, [1 / 3, 1.0], parallelism=3, placement=Placement(pool="t4"))
    document = next(iter(YAML(typ="safe").load_all(path.read_text())))
    tasks = document["root"]["dag"]["tasks"]
    loops = [task for task in tasks.values() if "parameterIterator" in task]
    assert [loop["iteratorPolicy"]["parallelismLimit"] for loop in loops] == [3] * 4
    images = {executor["container"]["image"] for executor in document["deploymentSpec"]["executors"].values()}
    assert all(image.startswith("localhost/lorry/") for image in images)
    steps = {name.removeprefix("exec-").rstrip("-0123456789") for name in document["deploymentSpec"]["executors"]}
    assert steps == {step.name.replace("_", "-") for step in SWEEP_STEPS}


class TinySweep:
    """A sweep with halving, one trial that cannot work, and one process killed on the way."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.workdir = folder, folder / "work"
        data = write_jsonl(folder / "data.jsonl", chat_rows(24))
        (folder / "recipe.yaml").write_text(recipe_text(base, data, max_steps=40, eval_steps=5, save_steps=5))
        self.sweep = folder / "sweep.yaml"
        self.sweep.write_text(
            "name: tiny-sweep\nrecipe: recipe.yaml\nhalving: {reduction_factor: 3, rungs: 2}\ntrials:\n"
            "  - {name: slow, train.learning_rate: 1e-5}\n  - {name: fast, train.learning_rate: 1e-2}\n"
            "  - {name: hot, train.learning_rate: 1e30, train.lr_scheduler_type: constant}\n"
        )
        flags = ["--run-best", "--workdir", str(self.workdir)]
        command = [sys.executable, "-m", "pipelines.cli", "sweep", str(self.sweep), *flags]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.killed = self._kill_a_trainer(child)
        self.output, _ = child.communicate(timeout=300)
        assert child.returncode == 0, self.output
        (self.result,) = (self.workdir / "sweeps").iterdir()

    def _kill_a_trainer(self, child: subprocess.Popen[str]) -> str:
        """SIGKILL the first process that has written a checkpoint; give its run."""
        deadline = time.monotonic() + 120
        while True:
            assert time.monotonic() < deadline
            assert child.poll() is None, child.communicate()[0]
            for writer in self.workdir.glob("checkpoints/*/writer.json"):
                if list(writer.parent.glob("checkpoint-*")) and (text := writer.read_text()):
                    os.kill(json.loads(text)["pid"], signal.SIGKILL)
                    return writer.parent.name
            time.sleep(0.005)

    @property
    def comparison(self) -> Comparison:
        return Comparison.model_validate_json((self.result / "comparison.json").read_bytes())


@pytest.fixture(scope="module")
def tiny_sweep(tmp_path_factory, tiny_base) -> TinySweep:
    return TinySweep(tmp_path_factory.mktemp("sweep"), tiny_base)


def test_every_trial_is_a_row_also_one_that_diverged_and_one_whose_process_was_killed(tiny_sweep):
    runs = {run.name: run for run in tiny_sweep.comparison.runs}
    assert list(runs) == ["slow", "fast", "hot"]
    assert runs["hot"].status == "diverged"
    assert runs["fast"].status == "finished"
    assert f"resuming from {tiny_sweep.workdir}/checkpoints/{tiny_sweep.killed}/checkpoint-" in tiny_sweep.output
    table = (tiny_sweep.result / "report.md").read_text()
    assert all(f"| {name} |" in table for name in runs)
    assert "> hot: training diverged: the " in table


def test_poor_trials_stop_early_and_good_ones_go_on_from_their_checkpoints(tiny_sweep):
    runs = {run.name: run for run in tiny_sweep.comparison.runs}
    assert (runs["slow"].steps, runs["slow"].stopped_early) == (14, True)
    assert (runs["fast"].steps, runs["fast"].stopped_early) == (40, False)
    assert "checkpoint-14" in tiny_sweep.output


def test_the_test_rows_are_read_once_for_the_winner(tiny_sweep):
    best = tiny_sweep.comparison.sets[0].best
    assert best == "fast"
    sweep, _, _ = tiny_sweep.output.partition("report  ")
    assert sweep.count("evaluate: started") == 1
    assert ">test</td>" in (tiny_sweep.result / "winner-evaluation.html").read_text()


def test_the_report_has_its_picture_and_the_best_recipe_is_ready(tiny_sweep):
    assert {path.name for path in tiny_sweep.result.iterdir()} >= {
        "report.html", "report.md", "curves.png", "comparison.json", "best-recipe.yaml", "trials", "log.txt",
    }  # fmt: skip
    best = load_recipe(tiny_sweep.result / "best-recipe.yaml")
    assert (best.train.learning_rate, best.train.max_steps, best.name) == (0.01, 40, "tiny")
    assert re.search(r"winner on the test rows: loss [\d.]+ untuned, [\d.]+ tuned", tiny_sweep.output)
    assert "e+" not in (tiny_sweep.result / "best-recipe.yaml").read_text()


def test_run_best_trains_nothing_again_exports_and_publishes(tiny_sweep):
    _, _, run = tiny_sweep.output.partition("report  ")
    assert "checkpoint-40" in run
    assert "/40 loss" not in run
    assert "publish_model: finished" in run
    current = json.loads((tiny_sweep.workdir / "store" / "models" / "current.json").read_text())
    assert current["recipe"] == "tiny"


def test_a_sweep_again_with_one_trial_more_trains_that_one_alone(tiny_sweep):
    more = tiny_sweep.folder / "more.yaml"
    more.write_text(tiny_sweep.sweep.read_text() + "  - {name: new, train.learning_rate: 1e-4}\n")
    done = run_lorry("sweep", more, "--workdir", tiny_sweep.workdir)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("train_trial: unchanged, reused") == 4  # three, and the best one to its end
    assert done.stdout.count("train_trial: trial new: to 33 % of its steps") == 1
    (result,) = set((tiny_sweep.workdir / "sweeps").iterdir()) - {tiny_sweep.result}
    comparison = Comparison.model_validate_json((result / "comparison.json").read_bytes())
    assert [run.name for run in comparison.runs] == ["slow", "fast", "hot", "new"]


def test_list_shows_the_trials_and_runs_nothing(recipe, tmp_path):
    done = run_lorry("sweep", write(tmp_path, GRID), "--list", "--workdir", tmp_path / "work")
    assert done.returncode == 0
    assert done.stdout.count("learning_rate=") == 4
    assert not (tmp_path / "work").exists()


def test_a_sweep_goes_to_a_cluster_with_its_inputs_in_the_store(recipe, tmp_path):
    data = write_jsonl(tmp_path / "more.jsonl", chat_rows(20))
    sweep = write(tmp_path, GRID.replace("train.lora_rank: [2, 4]", f"split.data: [{data}]"))
    flags = ("--store", "s3://lorry/store", "--workdir", tmp_path / "work")
    with s3_server(), kubeflow(StandIn()) as server:
        done = run_lorry("sweep", sweep, "--endpoint", server.url, *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        arguments = server.runs[0]["runtime_config"]["parameters"]
        (split,) = arguments["splits"]
        assert Store("s3://lorry/store").read(split["data"].removeprefix("s3://lorry/store/"))
    assert [item["trial"]["name"] for item in arguments["trials"]] == list(load_sweep(sweep).recipes)
    assert arguments["evaluate"]["test"] is True
    assert arguments["trials"][0]["trial"]["recipe"]["split"]["data"] == split["data"]
    assert str(tmp_path) not in json.dumps(arguments)
    assert "submitted: " in done.stdout
    # The best recipe must be one that can be submitted: what lies in a bucket is pinned there.
    pinned = arguments["trials"][0]["trial"]["recipe"]
    assert pinned["base_revision"] == arguments["trials"][0]["base_model"]["revision"]
    assert pinned["split"]["data_revision"] == split["data_revision"]
