"""Following a run on a cluster: the state of its steps, what pending ones wait for, and why one failed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from components.errors import ClusterError, LorryError, StepFailedError
from components.storage.run_notes import StepNote, read_notes
from pipelines.cluster.endpoint import RefusedError
from pipelines.cluster.kubeflow import Kubeflow
from pipelines.cluster.pods import RunPods
from pipelines.cluster.run_facts import RunFacts
from pipelines.cluster.run_steps import RunStep, steps_of
from pipelines.cluster.step_logs import StepLog, read_log
from pipelines.config.steps import STEPS
from pipelines.graph.placement import RUN_LABEL
from pipelines.terminal.progress import Progress

# An endpoint that is restarted, or a port-forward that is opened again, comes back within this.
SECONDS_WITHOUT_ANSWER = 300.0
# How long a step may be pending before the reason is printed (Kubeflow's own pauses are shorter), and repeated.
SECONDS_TO_WAIT = 20.0
SECONDS_TO_REPEAT = 300.0
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
KNOWN = tuple(STEPS)
# The progress of a step: each is printed once, whether the store or the API reports it first.
STARTED, DONE = 1, 2


@dataclass
class Following:
    """Shows the steps of a run until it ends."""

    kubeflow: Kubeflow
    run_id: str
    progress: Progress
    pods: RunPods
    seconds_between_requests: float
    pipeline_root: str | None = None
    # The run's parameters, where its answer has none.
    sent: dict[str, Any] = field(default_factory=dict)
    seconds_without_answer: float = SECONDS_WITHOUT_ANSWER
    _how_far: dict[str, int] = field(default_factory=dict)
    _tries: dict[str, tuple[int, bool]] = field(default_factory=dict)
    _waits: dict[str, _Wait] = field(default_factory=dict)
    _notes: dict[str, StepNote] = field(default_factory=dict)
    _canceling: bool = False
    _store_is_silent: bool = False

    def until_the_end(self) -> RunFacts:
        """Return when the run has succeeded, with its facts.

        Raises:
            StepFailedError: it has not, or somebody ended it.
            ClusterError: the endpoint is gone for ``seconds_without_answer``, or refuses, or was never there.
        """
        last_answer, answered = time.monotonic(), bool(self.sent)
        while True:
            try:
                run = self.kubeflow.run(self.run_id)
                last_answer, answered = time.monotonic(), True
            except ClusterError as error:
                gone = time.monotonic() - last_answer > self.seconds_without_answer
                # An endpoint that has never answered may be another server: it is not waited for.
                if gone or not answered or isinstance(error, RefusedError):
                    goes_on = f"; the run itself goes on: {self.kubeflow.page_of(self.run_id)}" if answered else ""
                    raise ClusterError(f"{error}{goes_on}") from error
                self.progress.note(f"{error}; asking again")
            else:
                facts = RunFacts(run, self.sent)
                facts.require_lorrys()
                details = (run.run_details.task_details if run.run_details else None) or []
                steps = steps_of(details, KNOWN)
                self._show(facts, steps)
                if run.state in ENDED:
                    self._end(facts, steps)
                    return facts
            time.sleep(self.seconds_between_requests)

    def _show(self, facts: RunFacts, steps: list[RunStep]) -> None:
        has_notes = self._show_notes(facts)
        for step in steps:
            label = facts.label_of(step)
            # A sweep's trials split the same rows again, and find the step reused.
            if facts.is_in_a_rung(step) and step.step == "split_data" and step.state != "failed":
                continue
            named_by_notes = has_notes and facts.has_rungs and step.step == "train_trial" and step.state != "reused"
            if not named_by_notes or step.state == "failed":
                self._show_state(label, step, facts)
            self._show_tries(label, step, facts)
        self._show_waits(facts, [step for step in steps if step.state == "pending"])
        if facts.is_canceled and not self._canceling and facts.state not in ENDED:
            self._canceling = True
            self.progress.note("somebody ends the run; training writes a checkpoint before it ends")

    def _show_notes(self, facts: RunFacts) -> bool:
        """Show the notes that steps left in the store: the API lists a large run in part, and has no figures."""
        if facts.store is None:
            return False
        try:
            self._notes = read_notes(facts.store, self.run_id, self._notes)
        except LorryError as error:
            # The state of the run comes from the API.
            if not self._store_is_silent:
                self.progress.note(f"no figures while it runs: {error}")
            self._store_is_silent = True
            return bool(self._notes)
        for note in self._notes.values():
            label = facts.label_of_note(note)
            if note.state in ("running", "finished"):
                self._start(label)
            if note.state == "finished":
                self._finish(label, note.seconds, _describe_figures(note))
        return bool(self._notes)

    def _show_state(self, label: str, step: RunStep, facts: RunFacts) -> None:
        if step.state == "reused" and self._how_far.get(label, 0) < DONE:
            self._how_far[label] = DONE
            self.progress.reused(label)
        elif step.state == "running":
            self._start(label)
        elif step.state == "succeeded":
            self._start(label)
            self._finish(label, step.seconds)
        elif step.state == "failed" and self._how_far.get(label, 0) < DONE:
            self._how_far[label] = DONE
            self.progress.failed(label, "canceled" if facts.is_canceled else "failed")

    def _start(self, label: str) -> None:
        if self._how_far.get(label, 0) < STARTED:
            self._how_far[label] = STARTED
            self.progress.started(label)

    def _finish(self, label: str, seconds: float | None, detail: str = "") -> None:
        if self._how_far.get(label, 0) < DONE:
            self._how_far[label] = DONE
            self.progress.finished(label, seconds, detail)

    def _show_tries(self, label: str, step: RunStep, facts: RunFacts) -> None:
        if step.state in ("succeeded", "reused", "failed") or step.tries == 0:
            return
        before, now = self._tries.get(label, (1, False)), (step.tries, step.newest_failed)
        self._tries[label] = now
        if now == before:
            return
        retries = facts.retries_of(step)
        of = "" if retries is None else f" of {1 + retries}"
        if step.newest_failed:
            pause = facts.pause_of(step)
            ended = f"its pod {self._how_it_ended(step, facts)}; try {step.tries}{of}"
            waits = f"; Kubeflow waits {pause} and then decides whether to try again" if pause else ""
            self.progress.line(label, f"{ended}{waits}")
        elif step.tries > before[0]:
            self.progress.line(label, f"begins again, try {step.tries}{of}")

    def _show_waits(self, facts: RunFacts, pending: list[RunStep]) -> None:
        now = time.monotonic()
        labels = {facts.label_of(step): step for step in pending}
        # A step that left a note has started, even where the API's list, which may have stopped, has it pending.
        started = {label for label in labels if self._how_far.get(label, 0) >= STARTED}
        labels = {label: step for label, step in labels.items() if label not in started or step.tries > 1}
        self._waits = {label: self._waits.get(label, _Wait(now)) for label in labels}
        late = [label for label, wait in self._waits.items() if now - wait.since >= SECONDS_TO_WAIT]
        reasons = self.pods.reasons() if late else None
        for label in late:
            wait, step = self._waits[label], labels[label]
            if reasons is None:
                if facts.is_unnamed(step):
                    continue  # it may have started: only the step's note names the trial of a later rung
                reason = f"its pod has not started; why: {self.pods.command}"
            elif (why := step.reason_in(reasons)) is not None:
                reason = why
            else:
                continue  # it has started, and the API does not know it yet
            if reason == wait.reason and now - wait.shown_at < SECONDS_TO_REPEAT:
                continue
            wait.reason, wait.shown_at = reason, now
            self.progress.line(label, f"pending for {now - wait.since:.0f} s: {reason}")

    def _end(self, facts: RunFacts, steps: list[RunStep]) -> None:
        if facts.state == "SUCCEEDED":
            return
        page = self.kubeflow.page_of(self.run_id)
        failed = [step for step in steps if step.state == "failed"]
        noted = [note for note in self._notes.values() if note.state == "failed"]
        # The API's list may have stopped before the step that failed.
        names = [facts.label_of(step) for step in failed] or [facts.label_of_note(note) for note in noted]
        where = f" in {names[0]}" if names else ""
        if facts.is_canceled:
            raise StepFailedError(
                f"the run was canceled{where}: somebody ended it; submit it again to go on, what is finished is "
                f"reused and training goes on from its checkpoint; its page: {page}"
            )
        if not failed and noted:
            task = noted[0].step.replace("_", "-")
            self._show_log(facts, task, of_failed=True)
            error = f": {noted[0].error}" if noted[0].error else ""
            raise StepFailedError(f"the run failed{where}{error}; its page: {page}")
        if not failed:
            error = f": {facts.error}" if facts.error else ""
            raise StepFailedError(f"the run ended as {facts.state}{error}; its page: {page}")
        raise StepFailedError(f"the run failed{where}{self._why(facts, failed[0])}; its page: {page}")

    def _why(self, facts: RunFacts, step: RunStep) -> str:
        """The failed step's error; the last lines of its log are shown."""
        log = StepLog("") if step.in_driver else self._show_log(facts, step.task, of_failed=bool(step.iteration))
        note = self._failed_note(step, facts)
        error = log.error or (note and note.error) or self.pods.out_of_memory(step.node)
        why = f": {error}" if error else ""
        if step.in_driver:
            return f"{why}: Kubeflow's driver, which prepares the step, failed; its log: {self._logs_command(step)}"
        if not log.lines:
            command = self._logs_command(step)
            return f"{why}; its log is not in the store ({log.address}); while its pod is there: {command}"
        return why

    def _show_log(self, facts: RunFacts, task: str, *, of_failed: bool) -> StepLog:
        root = self.pipeline_root or facts.pipeline_root
        log = read_log(root, facts.pipeline, self.run_id, task, of_failed=of_failed)
        if log.lines:
            self.progress.note("\n  ".join([f"the last lines of its log ({log.address}):", *log.last_lines]))
        return log

    def _how_it_ended(self, step: RunStep, facts: RunFacts) -> str:
        """How a step's newest pod ended."""
        note = self._failed_note(step, facts)
        if note is not None:
            return f"failed: {note.error}" if note.error else "failed; its log has the reason"
        return self.pods.out_of_memory(step.node) or "was lost or killed"

    def _failed_note(self, step: RunStep, facts: RunFacts) -> StepNote | None:
        """The note that a step left before its pod ended by an error."""
        trial = facts.trial_of(step)
        for note in self._notes.values():
            if note.state == "failed" and note.step == step.step and (trial is None or note.trial == trial):
                return note
        return None

    def _logs_command(self, step: RunStep) -> str:
        if step.pod is None:
            return f"kubectl -n {self.pods.namespace} logs -l {RUN_LABEL}={self.run_id} -c main --prefix --tail=20"
        return f"kubectl -n {self.pods.namespace} logs {step.pod} -c main"


@dataclass
class _Wait:
    since: float
    reason: str = ""
    shown_at: float = 0.0


def _describe_figures(note: StepNote) -> str:
    figures = note.figures
    if (loss := figures.get("final_eval_loss")) is not None and "steps" in figures:
        return f"validation loss {loss:.4f} after {figures['steps']:.0f} steps"
    return ""
