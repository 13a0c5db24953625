"""``lorry run``: a resolved recipe through the compiled pipeline document, on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any, TextIO

from components.artifacts.contracts import TRIAL_NAME, Trial
from components.errors import StepFailedError
from components.runtime.interrupts import interrupt_on_sigterm
from components.runtime.kfp_step import BEGINS
from components.train_lora.job import TRACEBACK_ABOVE
from pipelines.config.steps import RUN_STEPS, STEPS
from pipelines.local.engine import EVENT, SECONDS_TO_SAVE
from pipelines.local.workdir import (
    OUTPUTS,
    RunResult,
    Workdir,
    keep_outputs,
    new_folder,
    read_result,
    reports_in,
    write_figures,
)
from pipelines.resolve.resolved_recipe import ResolvedRecipe
from pipelines.terminal.progress import Progress
from pipelines.terminal.user_errors import user_error

DOCUMENT = "pipeline.yaml"

_KFP_LINES = ("[KFP Executor", "Wrote executor output file")


def run_pipeline(
    recipe: ResolvedRecipe, trial: Trial, workdir: Workdir, progress: Progress, no_reuse: Collection[str] = ()
) -> RunResult:
    """Compile the pipeline, run the compiled document with kfp.local, and return the result.

    ``trial`` describes the run for comparisons with others. Ctrl-C and SIGTERM stop the running step (training saves a
    checkpoint) and leave no process behind. What finished steps made for people is copied into the run's folder also
    when a later step fails.

    Raises:
        StepFailedError: a step failed; the message is the step's own where the user can correct it.
        KeyboardInterrupt: after everything has stopped.
    """
    from pipelines.graph.finetune import compile_finetune

    folder = new_folder(workdir.runs, recipe.name)
    with_model = recipe.split.quality.measures_perplexity
    compile_finetune(folder / DOCUMENT, split_with_model=with_model, no_reuse=no_reuse)
    (folder / "recipe.resolved.json").write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / TRIAL_NAME).write_text(trial.model_dump_json(indent=2) + "\n", encoding="utf-8")
    try:
        run_document(folder, recipe.arguments(workdir.checkpoints), workdir, progress)
    except StepFailedError:
        _keep(folder)
        for label, page in reports_in(folder).items():
            progress.note(f"{label}: {page}")
        raise
    _keep(folder)
    result = read_result(folder)
    assert result is not None  # the engine has written its end
    return result


def _keep(folder: Path) -> None:
    keep_outputs(folder, RUN_STEPS)
    write_figures(folder)


def run_document(folder: Path, arguments: dict[str, Any], workdir: Workdir, progress: Progress) -> None:
    """Run the compiled document of a run's ``folder``; its log and ``outputs.jsonl`` are left there.

    Raises:
        StepFailedError: see ``run_pipeline``.
        KeyboardInterrupt: see ``run_pipeline``.
    """
    job = {
        "document": str(folder / DOCUMENT),
        "arguments": arguments,
        "pipeline_root": str(workdir.steps),
        "cache_root": str(workdir.cache),
        "outputs": str(folder / OUTPUTS),
    }
    (folder / "job.json").write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
    with (folder / "log.txt").open("w", encoding="utf-8") as log_file:
        _Child(folder / "job.json", log_file, progress).follow()


class _Child:
    """The engine's process group, from start to end."""

    def __init__(self, job: Path, log_file: TextIO, progress: Progress) -> None:
        self.log_file = log_file
        self.progress = progress
        self.step, self.in_step = "the pipeline", False
        self.last_lines: deque[str] = deque(maxlen=200)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.local.engine", str(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )

    def follow(self) -> None:
        """Show what happens until the end; stop everything when this process gets SIGTERM or Ctrl-C."""
        with interrupt_on_sigterm():
            try:
                self._read()
            except KeyboardInterrupt:
                saves = "; training saves a checkpoint first" if self.step in ("train_lora", "train_trial") else ""
                self.progress.note(f"stopping {self.step}{saves}")
                self._stop()
                raise
            finally:
                self._signal(signal.SIGKILL)
        if self.process.wait() != 0:
            self.progress.failed(self.step)
            raise StepFailedError(self._reason())

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(EVENT):
                self._on_event(json.loads(line.removeprefix(EVENT)))
                continue
            if text := line.rstrip().removeprefix("    "):
                self._on_line(text)
        self.process.wait()

    def _on_line(self, text: str) -> None:
        """A line of the step, or of KFP around it: the log keeps all, the display only the step's own lines."""
        self.log_file.write(f"{self.step}: {text}\n")
        self.log_file.flush()
        if text.strip("-"):
            self.last_lines.append(text)
        if text == BEGINS % self.step:
            self.in_step = True
        elif text.startswith("Traceback (most recent call last)"):
            self.in_step = False  # the reason is reported at the end, in a line; the log has it all
        elif self.in_step and not text.startswith(_KFP_LINES):
            self.progress.line(self.step, text)

    def _on_event(self, event: dict[str, str]) -> None:
        self.step, self.in_step = event["step"], False
        if event["event"] == "started":
            self.last_lines.clear()
            self.progress.started(self.step)
        elif event["event"] == "reused":
            self.progress.reused(self.step)
        elif event["event"] == "success":
            self.progress.finished(self.step)

    def _stop(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=SECONDS_TO_SAVE)
        except subprocess.TimeoutExpired:
            self.progress.note(f"{self.step} did not stop within {SECONDS_TO_SAVE:.0f} s and is killed")

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def _reason(self) -> str:
        if message := user_error(self.last_lines):
            return f"{self.step}: {message.replace(TRACEBACK_ABOVE, f'its traceback is in {self.log_file.name}')}"
        step = STEPS.get(self.step)
        resumes = " to go on from the last checkpoint" if step and step.keeps_checkpoints else ""
        last_line = self.last_lines[-1] if self.last_lines else "none"
        return (
            f"{self.step} ended without finishing (its last line: {last_line}); the whole log is {self.log_file.name}; "
            f"run the same command again{resumes}"
        )
