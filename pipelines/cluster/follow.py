"""Following a run on a cluster: what its steps do, what they wait for, and why one failed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from components.errors import ClusterError, LorryError, StepFailedError
from components.storage.run_notes import StepNote, read_notes
from components.storage.store import Store, in_bucket
from pipelines.cluster.kubeflow import Kubeflow, RefusedError
from pipelines.cluster.pods import RunPods
from pipelines.cluster.run_steps import Step, steps_of
from pipelines.cluster.step_logs import StepLog, read_log
from pipelines.config.steps import STEPS
from pipelines.graph.placement import RUN_LABEL
from pipelines.terminal.progress import Progress

# An endpoint that is restarted, or a port-forward that is opened again, comes back within this.
SECONDS_WITHOUT_ANSWER = 300.0
# How long a step may wait before it is said what for; Kubeflow's own pauses are shorter. And how often it is repeated.
SECONDS_TO_WAIT = 20.0
SECONDS_TO_REPEAT = 300.0
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
KNOWN = tuple(STEPS)
# How far a step is; what was said is not said again, whichever of store and API says it first.
STARTED, DONE = 1, 2


@dataclass
class Following:
    """Shows the steps of a run until it ends."""

    kubeflow: Kubeflow
    run_id: str
    progress: Progress
    pods: RunPods
    seconds_between_looks: float
    pipeline_root: str | None = None
    # What the run was started with, where its own answer does not say.
    sent: dict[str, Any] = field(default_factory=dict)
    seconds_without_answer: float = SECONDS_WITHOUT_ANSWER
    _how_far: dict[str, int] = field(default_factory=dict)
    _tries: dict[str, tuple[int, bool]] = field(default_factory=dict)
    _waits: dict[str, _Wait] = field(default_factory=dict)
    _notes: dict[str, StepNote] = field(default_factory=dict)
    _canceling: bool = False
    _store_is_silent: bool = False

    def until_the_end(self) -> RunFacts:
        """Return when the run has succeeded, with what is known of it.

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
                # What has not answered once may be another server: it is not waited for.
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
            time.sleep(self.seconds_between_looks)

    def _show(self, facts: RunFacts, steps: list[Step]) -> None:
        has_notes = self._show_notes(facts)
        for step in steps:
            label = facts.label_of(step)
            # A sweep's trials split the same rows anew, and find it done.
            if facts.is_in_a_rung(step) and step.step == "split_data" and step.state != "failed":
                continue
            named_by_notes = has_notes and facts.has_rungs and step.step == "train_trial" and step.state != "reused"
            if not named_by_notes or step.state == "failed":
                self._show_state(label, step, facts)
            self._show_tries(label, step, facts)
        self._show_waits(facts, [step for step in steps if step.state == "pending"])
        if facts.is_canceled and not self._canceling and facts.state not in ENDED:
            self._canceling = True
            self.progress.note("somebody ends the run; training writes a checkpoint before it goes")

    def _show_notes(self, facts: RunFacts) -> bool:
        """What the steps themselves left in the store: the API lists not all of a large run, and has no figures."""
        if facts.store is None:
            return False
        try:
            self._notes = read_notes(facts.store, self.run_id, self._notes)
        except LorryError as error:
            # The run's own state is the API's to say.
            if not self._store_is_silent:
                self.progress.note(f"no figures while it runs: {error}")
            self._store_is_silent = True
            return bool(self._notes)
        for note in self._notes.values():
            label = facts.label_of_note(note)
            if note.state in ("running", "finished"):
                self._start(label)
            if note.state == "finished":
                self._finish(label, note.seconds, _figures_in_words(note))
        return bool(self._notes)

    def _show_state(self, label: str, step: Step, facts: RunFacts) -> None:
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

    def _finish(self, label: str, seconds: float | None, said: str = "") -> None:
        if self._how_far.get(label, 0) < DONE:
            self._how_far[label] = DONE
            self.progress.finished(label, seconds, said)

    def _show_tries(self, label: str, step: Step, facts: RunFacts) -> None:
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
            told = f"its pod {self._what_became(step, facts)}; try {step.tries}{of}"
            waits = f"; Kubeflow waits {pause} and then decides whether to try again" if pause else ""
            self.progress.line(label, f"{told}{waits}")
        elif step.tries > before[0]:
            self.progress.line(label, f"begins again, try {step.tries}{of}")

    def _show_waits(self, facts: RunFacts, pending: list[Step]) -> None:
        now = time.monotonic()
        labels = {facts.label_of(step): step for step in pending}
        # What has left word of itself has started, whatever the API's list says, which may have stopped.
        started = {label for label in labels if self._how_far.get(label, 0) >= STARTED}
        labels = {label: step for label, step in labels.items() if label not in started or step.tries > 1}
        self._waits = {label: self._waits.get(label, _Wait(now)) for label in labels}
        late = [label for label, wait in self._waits.items() if now - wait.since >= SECONDS_TO_WAIT]
        reasons = self.pods.reasons() if late else None
        for label in late:
            wait, step = self._waits[label], labels[label]
            if reasons is None:
                if facts.is_unnamed(step):
                    continue  # it has started perhaps: which trial of a later rung it is, only the step itself can say
                reason = f"its pod has not started; why: {self.pods.command}"
            elif (why := step.reason_in(reasons)) is not None:
                reason = why
            else:
                continue  # it has started, and the API does not know it yet
            if reason == wait.said and now - wait.said_at < SECONDS_TO_REPEAT:
                continue
            wait.said, wait.said_at = reason, now
            self.progress.line(label, f"pending for {now - wait.since:.0f} s: {reason}")

    def _end(self, facts: RunFacts, steps: list[Step]) -> None:
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
            said = f": {noted[0].error}" if noted[0].error else ""
            raise StepFailedError(f"the run failed{where}{said}; its page: {page}")
        if not failed:
            said = f": {facts.error}" if facts.error else ""
            raise StepFailedError(f"the run ended as {facts.state}{said}; its page: {page}")
        raise StepFailedError(f"the run failed{where}{self._why(facts, failed[0])}; its page: {page}")

    def _why(self, facts: RunFacts, step: Step) -> str:
        """The failed step's error; the last lines of its log are shown."""
        log = StepLog("") if step.in_driver else self._show_log(facts, step.task, of_failed=bool(step.iteration))
        note = self._failed_note(step, facts)
        told = log.error or (note and note.error) or self.pods.out_of_memory(step.node)
        why = f": {told}" if told else ""
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

    def _what_became(self, step: Step, facts: RunFacts) -> str:
        """How a step's newest pod ended."""
        note = self._failed_note(step, facts)
        if note is not None:
            return f"failed: {note.error}" if note.error else "failed; its log says why"
        return self.pods.out_of_memory(step.node) or "was lost or killed"

    def _failed_note(self, step: Step, facts: RunFacts) -> StepNote | None:
        """What a step left before its pod ended by an error."""
        trial = facts.trial_of(step)
        for note in self._notes.values():
            if note.state == "failed" and note.step == step.step and (trial is None or note.trial == trial):
                return note
        return None

    def _logs_command(self, step: Step) -> str:
        if step.pod is None:
            return f"kubectl -n {self.pods.namespace} logs -l {RUN_LABEL}={self.run_id} -c main --prefix --tail=20"
        return f"kubectl -n {self.pods.namespace} logs {step.pod} -c main"


@dataclass
class _Wait:
    since: float
    said: str = ""
    said_at: float = 0.0


class RunFacts:
    """What a run is of, read out of Kubeflow's answer."""

    def __init__(self, run: Any, sent: Mapping[str, Any]) -> None:
        self._run = run
        self.state: str = run.state
        config = run.runtime_config
        self.parameters: dict[str, Any] = dict((config.parameters if config else None) or sent)
        self.pipeline_root: str | None = config.pipeline_root if config else None
        self._trials = [] if not self.is_sweep else [str(item["trial"]["name"]) for item in self.parameters["trials"]]

    def require_lorrys(self) -> None:
        """Check that the run is one of Lorry's, of this version.

        Raises:
            ClusterError: it is another pipeline's.
        """
        publish = self.parameters.get("publish")
        store = publish.get("store") if isinstance(publish, dict) else None
        if not isinstance(store, str) or not isinstance(self.parameters.get("reduction_factor", 1), int | float):
            raise ClusterError(
                f"run {self.name!r}: is none that lorry submit or lorry sweep started, or an older Lorry's; look at "
                "its page"
            )

    @property
    def is_sweep(self) -> bool:
        """A sweep has trials."""
        trials = self.parameters.get("trials")
        return isinstance(trials, list) and all(isinstance(one, dict) and "trial" in one for one in trials)

    @property
    def pipeline(self) -> str:
        """The pipeline's name, a folder of Kubeflow's store."""
        return "sweep" if self.is_sweep else "finetune"

    @property
    def has_rungs(self) -> bool:
        """Whether a trial is trained in several goes."""
        return bool(self.parameters.get("reduction_factor", 1) > 1)

    @cached_property
    def store(self) -> Store | None:
        """The run's store, where it is a bucket."""
        address = self.parameters.get("publish", {}).get("store")
        return Store(address, short_timeouts=True) if address and in_bucket(address) else None

    @property
    def name(self) -> str:
        """What the run is called on its page."""
        return str(self._run.display_name)

    @property
    def is_canceled(self) -> bool:
        """Whether somebody ended the run: its state may say FAILED."""
        history = self._run.state_history or []
        return self.state in ("CANCELED", "CANCELING") or any(one.state == "CANCELING" for one in history)

    @property
    def error(self) -> str | None:
        """What Kubeflow itself says of a run that failed."""
        said = self._run.error.message if self._run.error else None
        return " ".join(said.split()) if said else None

    def is_in_a_rung(self, step: Step) -> bool:
        """Whether a step is of one trial of a sweep."""
        return self.is_sweep and bool(step.iteration) and (step.step == "train_trial" or step.rung > 1)

    def label_of(self, step: Step) -> str:
        """What a step is called: a trial by its name, where the first rung tells which one it is."""
        if step.step == "root":
            return "the run"
        if step.step != "train_trial":
            return step.step
        if (trial := self.trial_of(step)) is not None:
            return f"trial {trial}"
        return f"trial {(step.iteration[-1] if step.iteration else 0) + 1} of rung {step.rung}"

    def trial_of(self, step: Step) -> str | None:
        """The trial that a step is of, where the first rung tells which one."""
        number = step.iteration[-1] if step.iteration else 0
        known = step.step == "train_trial" and step.rung == 1 and number < len(self._trials)
        return self._trials[number] if known else None

    def label_of_note(self, note: StepNote) -> str:
        """As ``label_of``, of a step that left word of itself."""
        if note.trial is None:
            return note.step
        share = "" if not self.has_rungs or note.fraction is None else f" to {100 * note.fraction:.0f} %"
        return f"trial {note.trial}{share}"

    def is_unnamed(self, step: Step) -> bool:
        """Whether a step is of a trial that only the step itself can name."""
        return step.step == "train_trial" and step.rung > 1 and self.store is not None

    def retries_of(self, step: Step) -> int | None:
        """How often Kubeflow may try a step's pod again, or None where the run does not say."""
        count = self._retry_policy(step).get("maxRetryCount")
        return None if count is None else int(count)

    def pause_of(self, step: Step) -> str | None:
        """How long Kubeflow waits between two tries."""
        pause = self._retry_policy(step).get("backoffDuration")
        return None if pause is None else str(pause)

    def _retry_policy(self, step: Step) -> dict[str, Any]:
        spec = self._run.pipeline_spec or {}
        spec = spec.get("pipeline_spec", spec)
        for component in (spec.get("root", {}), *spec.get("components", {}).values()):
            task = component.get("dag", {}).get("tasks", {}).get(step.task)
            if task is not None:
                return dict(task.get("retryPolicy", {}))
        return {}


def _figures_in_words(note: StepNote) -> str:
    figures = note.figures
    if (loss := figures.get("final_eval_loss")) is not None and "steps" in figures:
        return f"validation loss {loss:.4f} after {figures['steps']:.0f} steps"
    return ""
