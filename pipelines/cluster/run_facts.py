"""What Kubeflow's answer about a run contains: its parameters, its store, the labels of its steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from components.errors import ClusterError
from components.storage.run_notes import StepNote
from components.storage.store import Store, in_bucket
from pipelines.cluster.run_steps import RunStep

_RUN_KEY = re.compile(r"[0-9a-f]{16}")


class RunFacts:
    """A run as Kubeflow's API describes it."""

    def __init__(self, run: Any, sent: Mapping[str, Any]) -> None:
        self._run = run
        self.state: str = run.state
        config = run.runtime_config
        self.parameters: dict[str, Any] = dict((config.parameters if config else None) or sent)
        self.pipeline_root: str | None = config.pipeline_root if config else None
        self._trials = [] if not self.is_sweep else [str(item["trial"]["name"]) for item in self.parameters["trials"]]

    def require_lorrys(self) -> None:
        """Check that the run was started by this version of Lorry.

        Raises:
            ClusterError: it is another pipeline's.
        """
        if not self.is_lorrys:
            raise ClusterError(
                f"run {self.name!r}: was not started by lorry submit or lorry sweep of this version; see its page"
            )

    @property
    def is_lorrys(self) -> bool:
        """Whether this version of Lorry started the run."""
        publish = self.parameters.get("publish")
        store = publish.get("store") if isinstance(publish, dict) else None
        return isinstance(store, str) and isinstance(self.parameters.get("reduction_factor", 1), int | float)

    @property
    def recipe(self) -> str | None:
        """The name of the run's recipe, a sweep's base included; None in another pipeline's run."""
        recipe = self.parameters.get("recipe")
        if isinstance(recipe, str):
            return recipe
        if not self.is_sweep or not self._trials:
            return None
        base = self.parameters["trials"][0]["trial"].get("recipe", {}).get("name", "?")
        return f"{base} (sweep, {len(self._trials)} trials)"

    @property
    def is_sweep(self) -> bool:
        """Whether the run is a sweep, which has trials."""
        trials = self.parameters.get("trials")
        return isinstance(trials, list) and all(isinstance(one, dict) and "trial" in one for one in trials)

    @property
    def pipeline(self) -> str:
        """The pipeline's name, a folder of Kubeflow's store."""
        return "sweep" if self.is_sweep else "finetune"

    @property
    def has_rungs(self) -> bool:
        """Whether trials are trained in several rungs."""
        return bool(self.parameters.get("reduction_factor", 1) > 1)

    @cached_property
    def store(self) -> Store | None:
        """The run's store, where it is a bucket."""
        address = self.parameters.get("publish", {}).get("store")
        return Store(address, short_timeouts=True) if address and in_bucket(address) else None

    @property
    def figures_name(self) -> str:
        """The name under which the run's figures are in the store: its id, or the run key of its schedule."""
        return run_key_in(self._run.pipeline_spec or {}) or str(self._run.run_id)

    @property
    def name(self) -> str:
        """The run's name on its page."""
        return str(self._run.display_name)

    @property
    def is_canceled(self) -> bool:
        """Whether somebody ended the run: its state may be FAILED."""
        states = [one.state for one in self._run.state_history or []]
        if "RUNNING" in states:  # a run that is tried again keeps the history of its former end
            states = states[len(states) - states[::-1].index("RUNNING") :]
        return self.state in ("CANCELED", "CANCELING") or "CANCELING" in states

    @property
    def error(self) -> str | None:
        """Kubeflow's own message about a run that failed."""
        message = self._run.error.message if self._run.error else None
        return " ".join(message.split()) if message else None

    def is_in_a_rung(self, step: RunStep) -> bool:
        """Whether a step is of one trial of a sweep."""
        return self.is_sweep and bool(step.iteration) and (step.step == "train_trial" or step.rung > 1)

    def label_of(self, step: RunStep) -> str:
        """The label of a step: a trial's name, where the first rung shows which trial it is."""
        if step.step == "root":
            return "the run"
        if step.step != "train_trial":
            return step.step
        if (trial := self.trial_of(step)) is not None:
            return f"trial {trial}"
        return f"trial {(step.iteration[-1] if step.iteration else 0) + 1} of rung {step.rung}"

    def trial_of(self, step: RunStep) -> str | None:
        """The name of a step's trial, where the first rung shows which one."""
        number = step.iteration[-1] if step.iteration else 0
        known = step.step == "train_trial" and step.rung == 1 and number < len(self._trials)
        return self._trials[number] if known else None

    def label_of_note(self, note: StepNote) -> str:
        """As ``label_of``, for the step of a note."""
        if note.trial is None:
            return note.step
        share = "" if not self.has_rungs or note.fraction is None else f" to {100 * note.fraction:.0f} %"
        return f"trial {note.trial}{share}"

    def is_unnamed(self, step: RunStep) -> bool:
        """Whether only the step's own note can name its trial."""
        return step.step == "train_trial" and step.rung > 1 and self.store is not None

    def retries_of(self, step: RunStep) -> int | None:
        """How often Kubeflow may try a step's pod again, or None where the run has no setting."""
        count = self._retry_policy(step).get("maxRetryCount")
        return None if count is None else int(count)

    def pause_of(self, step: RunStep) -> str | None:
        """How long Kubeflow waits between two tries."""
        pause = self._retry_policy(step).get("backoffDuration")
        return None if pause is None else str(pause)

    def _retry_policy(self, step: RunStep) -> dict[str, Any]:
        spec = _document(self._run.pipeline_spec or {})
        for component in (spec.get("root", {}), *spec.get("components", {}).values()):
            task = component.get("dag", {}).get("tasks", {}).get(step.task)
            if task is not None:
                return dict(task.get("retryPolicy", {}))
        return {}


def run_key_in(pipeline_spec: Mapping[str, Any]) -> str | None:
    """The run key that a schedule's document gives to publishing; None in the document of any other run."""
    tasks = _document(pipeline_spec).get("root", {}).get("dag", {}).get("tasks", {})
    given = tasks.get("publish-model", {}).get("inputs", {}).get("parameters", {}).get("run", {})
    key = given.get("runtimeValue", {}).get("constant")
    return key if isinstance(key, str) and _RUN_KEY.fullmatch(key) else None


def _document(pipeline_spec: Mapping[str, Any]) -> Mapping[str, Any]:
    document: Mapping[str, Any] = pipeline_spec.get("pipeline_spec", pipeline_spec)
    return document
