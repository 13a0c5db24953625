"""``lorry submit``: a recipe to a Kubeflow endpoint, and following its run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import ClusterError, ModelError, StepFailedError
from components.publish_model.publish import figures_key
from components.store import Store, in_bucket
from pipelines.addresses import claims_in
from pipelines.kubeflow import Kubeflow, RefusedError
from pipelines.pools import Placement
from pipelines.progress import Progress, step_of
from pipelines.resolve import ResolvedRecipe
from pipelines.upload import upload_inputs

# An endpoint that is restarted, or a port-forward that is opened again, comes back within this.
SECONDS_WITHOUT_ANSWER = 300.0
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


def start(
    recipe: ResolvedRecipe, placement: Placement, kubeflow: Kubeflow, experiment_id: str, tell: Callable[[str], None]
) -> tuple[str, ResolvedRecipe]:
    """Upload, compile and start a run; give its id, and the recipe with the addresses that the pods see.

    Raises:
        RecipeError: the recipe names no store that pods reach.
        StoreError: the store refuses or does not answer.
        ClusterError: the endpoint refuses or does not answer.
    """
    from pipelines.finetune import compile_finetune
    from pipelines.placement import CHECKPOINTS

    there = upload_inputs(recipe, kubeflow.namespace or "kubeflow", tell)
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "finetune.yaml"
        compile_finetune(
            document,
            placement,
            claims_in(there.addresses.values()),
            split_with_model=there.split.quality.measures_perplexity,
        )
        name = f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        return kubeflow.submit(document, there.arguments(CHECKPOINTS), name, experiment_id), there


@dataclass
class Following:
    """Shows the steps of a run until it ends."""

    kubeflow: Kubeflow
    run_id: str
    progress: Progress
    seconds_between_looks: float
    seconds_without_answer: float = SECONDS_WITHOUT_ANSWER

    def __post_init__(self) -> None:
        self._told: dict[str, str] = {}

    def until_the_end(self) -> None:
        """Return when the run has succeeded.

        Raises:
            StepFailedError: it has not.
            ClusterError: the endpoint is gone for ``seconds_without_answer``, or refuses.
        """
        last_answer = time.monotonic()
        while True:
            try:
                run = self.kubeflow.run(self.run_id)
                last_answer = time.monotonic()
            except ClusterError as error:
                gone = time.monotonic() - last_answer > self.seconds_without_answer
                if gone or isinstance(error, RefusedError):
                    raise ClusterError(
                        f"{error}; the run itself goes on: {self.kubeflow.page_of(self.run_id)}"
                    ) from error
                self.progress.note(f"{error}; asking again")
            else:
                details = (run.run_details.task_details if run.run_details else None) or []
                self._show(details)
                if run.state in ENDED:
                    return self._end(run, details)
            time.sleep(self.seconds_between_looks)

    def _show(self, details: list[Any]) -> None:
        skipped = {task.pod_name for task in details if task.state == "SKIPPED"}
        for task in details:
            step = _step_of(task)
            if step is None or self._told.get(step) == task.state:
                continue
            # A reused step is one whose own pod was not needed.
            children = {child.pod_name for child in task.child_tasks or []}
            state = "SKIPPED" if task.state == "SUCCEEDED" and children & skipped else task.state
            if state == "SKIPPED":
                self.progress.reused(step)
            elif state in ("RUNNING", "SUCCEEDED", "FAILED"):
                if step not in self._told:
                    self.progress.started(step)
                self._close(step, state, task)
            else:
                continue
            self._told[step] = task.state

    def _close(self, step: str, state: str, task: Any) -> None:
        if state == "FAILED":
            self.progress.failed(step)
        elif state == "SUCCEEDED":
            known = task.start_time and task.end_time
            self.progress.finished(step, (task.end_time - task.start_time).total_seconds() if known else None)

    def _end(self, run: Any, details: list[Any]) -> None:
        if run.state == "SUCCEEDED":
            return
        page = self.kubeflow.page_of(self.run_id)
        failed = [task for task in details if task.state == "FAILED" and _step_of(task)]
        where = f" in {_step_of(failed[0])}" if failed else ""
        errors = [one.error.message for one in (*failed, run) if one.error and one.error.message]
        said = f": {' '.join(str(errors[0]).split())}" if errors else ""
        raise StepFailedError(f"the run ended as {run.state}{where}{said}; the step's log is on its page: {page}")


def _step_of(task: Any) -> str | None:
    """The pipeline's step that a task is; Kubeflow has tasks of its own beside them."""
    from pipelines import finetune, sweep

    name = step_of(task.display_name or "")
    return name if name in (*finetune.STEPS, *sweep.STEPS) else None


def figures_of(recipe: ResolvedRecipe, run_id: str) -> dict[str, Any] | None:
    """What a finished run measured, as its last step left it in the store; None where only pods reach the store.

    Raises:
        StoreError: the store refuses or does not answer.
        ModelError: the run left nothing there.
    """
    address = recipe.publish.store
    if address is None or not in_bucket(address):
        return None
    store = Store(address)
    try:
        return dict(json.loads(store.read(figures_key(run_id))))
    except FileNotFoundError:
        raise ModelError(f"{store.address_of(figures_key(run_id))}: the run left no figures there") from None
