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
from pipelines.cluster.step_logs import user_error
from pipelines.local.engine import EVENT, SECONDS_TO_SAVE
from pipelines.local.workdir import OUTPUTS, RunResult, Workdir, keep_what_was_made, new_folder, read_result, reports_in
from pipelines.resolve.resolved_recipe import ResolvedRecipe
from pipelines.terminal.progress import Progress

DOCUMENT = "pipeline.yaml"

_KFP_LINES = ("[KFP Executor", "Wrote executor output file")


def run_pipeline(
    recipe: ResolvedRecipe, trial: Trial, workdir: Workdir, progress: Progress, no_reuse: Collection[str] = ()
) -> RunResult:
    """Compile the pipeline, run the compiled document with kfp.local, and give what it made.

    ``trial`` says what the run is of, to whom compares it. Ctrl-C and SIGTERM stop the step in work (training saves a
    checkpoint) and leave no process behind. What finished steps made for people lies in the run's folder also when a
    later step fails.

    Raises:
        StepFailedError: a step failed; the message is the step's own where it is the user's to mend.
        KeyboardInterrupt: after everything has stopped.
    """
    from pipelines.graph.finetune import compile_finetune

    folder = new_folder(workdir.runs, recipe.name)
    compile_finetune(folder / DOCUMENT, no_reuse=no_reuse)
    (folder / "recipe.resolved.json").write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / TRIAL_NAME).write_text(trial.model_dump_json(indent=2) + "\n", encoding="utf-8")
    try:
        run_document(folder, recipe.arguments(workdir.checkpoints), workdir, progress)
    except StepFailedError:
        keep_what_was_made(folder)
        for label, page in reports_in(folder).items():
            progress.note(f"{label}: {page}")
        raise
    keep_what_was_made(folder)
    return read_result(folder)


def run_document(folder: Path, arguments: dict[str, Any], workdir: Workdir, progress: Progress) -> None:
    """Run the compiled document of a run's ``folder``; log, outputs and result are left there.

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
        "result": str(folder / "result.json"),
    }
    (folder / "job.json").write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
    with (folder / "log.txt").open("w", encoding="utf-8") as log_file:
        _Child(folder / "job.json", log_file, progress).follow()


class _Child:
    """The engine's process group, from start to end."""

    def __init__(self, job: Path, log_file: TextIO, progress: Progress) -> None:
        self.log_file = log_file
        self.progress = progress
        self.step, self.step_speaks = "the pipeline", False
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
        """Show what happens until the end; stop everything when this process is told to stop."""
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
        """A line of the step, or of KFP around it: the log keeps all, the display what the step itself says."""
        self.log_file.write(f"{self.step}: {text}\n")
        self.log_file.flush()
        if text.strip("-"):
            self.last_lines.append(text)
        if text == BEGINS % self.step:
            self.step_speaks = True
        elif text.startswith("Traceback (most recent call last)"):
            self.step_speaks = False  # the reason is told at the end, in a line; the log has it all
        elif self.step_speaks and not text.startswith(_KFP_LINES):
            self.progress.line(self.step, text)

    def _on_event(self, event: dict[str, str]) -> None:
        self.step, self.step_speaks = event["step"], False
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
        if said := user_error(self.last_lines):
            return f"{self.step}: {said.replace(TRACEBACK_ABOVE, f'its traceback is in {self.log_file.name}')}"
        said = self.last_lines[-1] if self.last_lines else "it was killed before it said anything"
        return (
            f"{self.step} ended without finishing (its last line: {said}); the whole log is {self.log_file.name}; "
            "run the same command again to go on from the last checkpoint"
        )
