"""``lorry run`` as a whole: what it makes, what it reuses, and what it leaves behind when it is stopped."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from components.storage.digests import sha256_of
from components.train_lora.supervise import MAX_RESTARTS
from pipelines.config.steps import RUN_STEPS, names_of
from pipelines.local.workdir import read_result
from pipelines.terminal.progress import Progress
from tests.conftest import ROOT, TinyRun, chat, recipe_text, run_lorry, write_jsonl

STEPS = names_of(RUN_STEPS)


def outcome_of_steps(output: str) -> dict[str, str]:
    """Which steps ran and which were reused, by what was printed."""
    return {
        step: "reused" if f"{step}: unchanged, reused" in output else "ran"
        for step in STEPS
        if f"{step}: unchanged, reused" in output or f"{step}: started" in output
    }


@pytest.fixture
def copy(tiny_run, tmp_path) -> TinyRun:
    """The tiny run with a recipe, data and work folder that a test may change; its steps count as done."""
    own = TinyRun.__new__(TinyRun)
    own.folder, own.workdir = tmp_path, tiny_run.workdir
    own.data = Path(shutil.copy(tiny_run.data, tmp_path / "data.jsonl"))
    own.recipe = tmp_path / "recipe.yaml"
    own.recipe.write_text(tiny_run.recipe.read_text())
    return own


def run(tiny: TinyRun, workdir: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = run_lorry("run", tiny.recipe, "--workdir", workdir or tiny.workdir)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_run_ends_with_figures_and_the_paths_of_what_it_made(tiny_run):
    output = tiny_run.done.stdout
    assert outcome_of_steps(output) == dict.fromkeys(STEPS, "ran")
    assert "24 rows read: 18 train, 4 validation, 2 test, 0 unused, 0 dropped" in output
    assert "smaller than f16" in output
    for line in output.splitlines():
        if line.startswith(("model ", "adapter ", "split report", "evaluation report", "log ")):
            assert Path(line.split()[-1]).exists()
    assert "[KFP Executor" not in output


def test_what_a_run_makes_lies_in_its_work_folder(tiny_run):
    made = {".in-use.lock", "cache", "checkpoints", "runs", "steps", "store"}
    assert {path.name for path in tiny_run.workdir.iterdir()} == made
    folder = next((tiny_run.workdir / "runs").iterdir())
    assert {path.name for path in folder.iterdir()} == {
        "answers.json", "answers-gguf.json", "evaluation.html", "figures.json", "history.jsonl", "job.json", "log.txt",
        "notes", "outputs.jsonl", "pipeline.yaml", "quantization.html", "recipe.resolved.json", "run.json",
        "split.html", "split.json", "trial.json",
    }  # fmt: skip
    assert "Evaluation" in (folder / "evaluation.html").read_text()


REPEATED = {**dict.fromkeys(STEPS, "reused"), "publish_model": "ran"}


def test_a_repeated_run_reuses_everything_and_points_at_its_model_again(tiny_run):
    pointer = tiny_run.workdir / "store" / "models" / "current.json"
    pointer.unlink()
    assert outcome_of_steps(run(tiny_run).stdout) == REPEATED
    assert json.loads(pointer.read_text())["sha256"] == sha256_of(tiny_run.model)


def test_a_changed_train_section_does_not_split_again(copy):
    copy.recipe.write_text(copy.recipe.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))
    outcomes = outcome_of_steps(run(copy).stdout)
    assert outcomes["split_data"] == "reused"
    assert {outcomes[step] for step in ("train_lora", "evaluate", "export_gguf", "evaluate_gguf", "gate")} == {"ran"}


def test_a_changed_export_section_trains_nothing(copy):
    copy.recipe.write_text(copy.recipe.read_text().replace("Q8_0", "Q6_K"))
    assert outcome_of_steps(run(copy).stdout) == {
        **REPEATED,
        "export_gguf": "ran",
        "evaluate_gguf": "ran",
        "gate": "ran",
    }


def test_a_model_outside_the_gate_is_not_published_and_its_figures_stay_to_look_at(copy, tiny_run):
    pointer = tiny_run.workdir / "store" / "models" / "current.json"
    before = pointer.read_bytes()
    copy.recipe.write_text(copy.recipe.read_text() + "gate:\n  max_validation_loss: 0.5\n")
    done = run_lorry("run", copy.recipe, "--workdir", copy.workdir)
    assert done.returncode == 1
    assert re.match(
        r"error: gate: not published: tuned_validation_loss is [\d.]+, [\d.]+ above gate\.max_validation_loss = 0\.5$",
        done.stderr.strip(),
    )
    assert pointer.read_bytes() == before
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines() if " report: " in line)
    page = Path(told["quantization report"])
    assert page.is_file()
    assert json.loads((page.parent / "figures.json").read_text())["evaluate"]["tuned_validation_loss"] > 0.5


def test_an_appended_row_splits_again(copy):
    copy.recipe.write_text(copy.recipe.read_text().replace(str(copy.recipe.parent), str(copy.folder)))
    text = copy.recipe.read_text()
    start = text.index("data: ") + len("data: ")
    copy.recipe.write_text(text[:start] + str(copy.data) + text[text.index("\n", start) :])
    with copy.data.open("a") as file:
        file.write(json.dumps(chat("a new question", "a new answer")) + "\n")
    output = run(copy).stdout
    assert outcome_of_steps(output)["split_data"] == "ran"
    assert "25 rows read" in output


def test_a_step_that_fails_by_the_users_doing_is_one_line(tiny_base, tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", [chat(f"q{i}", "a") for i in range(3)])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe_text(tiny_base, data))
    done = run_lorry("run", recipe, "--workdir", tmp_path / "work")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"error: split_data: {data}: the split asks for 7 rows (train at least 1, validation 4, test 2), "
        "but only 3 of 3 rows can be used; ask for fewer or add data"
    )
    (folder,) = (tmp_path / "work" / "runs").iterdir()
    assert read_result(folder) is None


def processes_of(workdir: Path) -> list[psutil.Process]:
    """Every process whose command line or environment speaks of the work folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(workdir) in part for part in process.info["cmdline"] or [])
    ]


def start(recipe: Path, workdir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines.cli", "run", str(recipe), "--workdir", str(workdir)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test run in the background has Ctrl-C switched off, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def trainer_pid(workdir: Path, child: subprocess.Popen[str], step: int) -> int:
    """The process that trains, once it has written a checkpoint of at least ``step``."""
    deadline = time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline
        assert child.poll() is None, child.communicate()[0]
        steps = [int(path.name.split("-")[1]) for path in workdir.glob("checkpoints/*/checkpoint-*")]
        if steps and max(steps) >= step:
            writer = next(workdir.glob("checkpoints/*/writer.json"), None)  # absent for a moment after a restart
            if writer is not None and (text := writer.read_text()):
                return int(json.loads(text)["pid"])
        time.sleep(0.02)


@pytest.fixture
def long_recipe(tiny_base, tiny_run, tmp_path) -> Path:
    """A recipe that trains long enough to be stopped in the middle."""
    path = tmp_path / "long.yaml"
    path.write_text(
        recipe_text(tiny_base, tiny_run.data, max_steps=3000, save_steps=20, eval_steps=1000, logging_steps=20)
    )
    return path


def test_ctrl_c_saves_leaves_no_process_and_the_next_run_goes_on_from_there(long_recipe, tmp_path):
    workdir = tmp_path / "work"
    child = start(long_recipe, workdir)
    trainer_pid(workdir, child, 20)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 130, output
    assert "stopping train_lora; training saves a checkpoint first" in output
    assert processes_of(workdir) == []
    saved = max(int(path.name.split("-")[1]) for path in workdir.glob("checkpoints/*/checkpoint-*"))
    second = start(long_recipe, workdir)
    trainer_pid(workdir, second, saved + 20)
    second.send_signal(signal.SIGTERM)
    output, _ = second.communicate(timeout=60)
    assert f"resuming from {next(workdir.glob('checkpoints/*/'))}/checkpoint-{saved}" in output
    assert processes_of(workdir) == []


def test_a_killed_lorry_leaves_no_process_behind(long_recipe, tmp_path):
    workdir = tmp_path / "work"
    child = start(long_recipe, workdir)
    pid = trainer_pid(workdir, child, 20)
    child.kill()
    child.communicate()
    deadline = time.monotonic() + 30
    while (psutil.pid_exists(pid) or processes_of(workdir)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(pid)
    assert processes_of(workdir) == []


def test_a_trainer_that_is_killed_goes_on_by_itself_and_a_second_run_at_the_same_time_is_refused(long_recipe, tmp_path):
    workdir = tmp_path / "work"
    child = start(long_recipe, workdir)
    pid = trainer_pid(workdir, child, 20)
    second = run_lorry("run", long_recipe, "--workdir", workdir)
    assert second.returncode == 1
    assert f"another run (process {pid}) is training this very recipe; wait until it ends" in second.stderr
    assert second.stderr.count("\n") == 1
    for n_kills in range(1, MAX_RESTARTS + 2):
        os.kill(pid, signal.SIGKILL)
        while n_kills <= MAX_RESTARTS and trainer_pid(workdir, child, 20) == pid:
            time.sleep(0.02)
        pid = trainer_pid(workdir, child, 20) if n_kills <= MAX_RESTARTS else pid
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 1
    assert output.count("starting it again, from checkpoint-") == MAX_RESTARTS
    assert "error: train_lora: training was killed by signal 9 (SIGKILL)" in output
    assert "the same submission goes on from the newest checkpoint" in output


def test_the_document_installs_nothing_and_carries_no_path_of_this_machine(tiny_run, tmp_path):
    document = tmp_path / "finetune.yaml"
    assert run_lorry("compile", tiny_run.recipe, "--output", document).returncode == 0
    text = document.read_text()
    assert "pip install" not in text
    assert str(ROOT) not in text
    assert text.count("image: localhost/lorry/") == len(STEPS)


def test_help_is_complete():
    commands = ("check", "run", "compile", "submit", "pin", "demo", "sweep", "report", "push", "serve", "chat")
    listed = run_lorry("--help").stdout
    for command in commands:
        assert command in listed
        assert run_lorry(command, "--help").returncode == 0


def test_steps_named_in_no_reuse_run_again_and_the_others_do_not(tiny_run):
    done = run_lorry("run", tiny_run.recipe, "--workdir", tiny_run.workdir, "--no-reuse", "evaluate,export-gguf")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    reused = [line.partition(":")[0] for line in said if line.endswith("unchanged, reused")]
    assert {"split_data", "train_lora"} <= set(reused)
    assert {"evaluate: started", "export_gguf: started", "publish_model: started"} <= set(said)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("trainlora", "--no-reuse trainlora: no such step; did you mean train_lora?"),
        ("train_trial", "--no-reuse train_trial: no such step; did you mean train_lora?"),
        ("", "--no-reuse: names no step; the steps are split_data, train_lora"),
        ("everything", "--no-reuse everything: no such step; the steps are split_data, train_lora, evaluate, export"),
    ],
)
def test_a_step_that_no_reuse_does_not_know_is_told(tiny_run, given, told):
    done = run_lorry("run", tiny_run.recipe, f"--no-reuse={given}")
    assert done.returncode == 1
    assert told in done.stderr


def test_no_reuse_stands_without_a_value_wherever_it_is_written(tiny_run, tmp_path):
    names = {}
    for place, flags in (("before", ["--no-reuse", tiny_run.recipe]), ("behind", [tiny_run.recipe, "--no-reuse"])):
        names[place] = tmp_path / f"{place}.yaml"
        done = run_lorry("compile", *flags, "--output", names[place])
        assert done.returncode == 0, done.stderr
        assert "enableCache: true" not in names[place].read_text()
    assert names["before"].read_text() == names["behind"].read_text()


def test_a_split_that_cannot_be_filled_is_known_before_anything_runs(tiny_run, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_run.recipe.read_text().replace("validation_rows: 4", "validation_rows: 40"))
    told = (
        f"error: split: {tiny_run.data}: the split asks for 43 rows (train at least 1, validation 40, test 2), but "
        "only 24 of 24 rows can be used; ask for fewer or add data\n"
    )
    assert run_lorry("check", recipe).stderr == told
    sent = run_lorry("submit", recipe, "--endpoint", "http://127.0.0.1:1", "--store", "s3://lorry/store")
    assert (sent.returncode, sent.stderr) == (1, told)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("name: s\nrecipe: recipe.yaml\ngrid: {train.learning_rate: [1e-3, 1e-4]}\n")
    assert run_lorry("check", sweep).stderr == told


@pytest.mark.parametrize("kind", ["step", "prompt", "row"])
def test_what_a_step_counts_moves_its_bar(kind):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Progress(console) as progress:
        progress.started("evaluate_gguf")
        progress.line("evaluate_gguf", f"{kind} 30/40 compared")
        (task,) = progress._live.tasks
        assert (task.completed, task.total) == (30, 40)
