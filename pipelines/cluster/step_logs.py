"""The log of a step on a cluster: its pod's while it runs; Kubeflow keeps it in its own store, as ``executor-logs``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from components.errors import ClusterError, LorryError, StepFailedError
from components.storage.store import Store
from pipelines.cluster.kubectl import Kubectl, MissingObjectError
from pipelines.cluster.kubeflow import Kubeflow
from pipelines.cluster.run_facts import RunFacts
from pipelines.cluster.run_steps import RunStep, steps_of
from pipelines.config.steps import STEPS
from pipelines.terminal.user_errors import user_error

# Kubeflow's own setting where neither run nor namespace has another (kfp-launcher's defaultPipelineRoot).
DEFAULT_ROOT = "s3://mlpipeline/v2/artifacts"
ARTIFACT = "executor-logs"
N_LINES = 12
# Of the iterations of a loop, as many are read.
MAX_LOGS = 50
TRACEBACK = "Traceback (most recent call last):"
# After this come its inputs, as JSON of several lines.
INPUTS_FOLLOW = "Got executor_input:"
# Of a step's pod; the other one is Argo's.
CONTAINER = "main"

# Lines of Kubeflow's launcher and executor around the step's own.
_AROUND = re.compile(
    r"^([IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ |\[KFP Executor |Looking for component|Loading KFP component"
    r"|Wrote executor output file to )"
)


@dataclass(frozen=True)
class StepLog:
    """Where a step's log lies, and its lines; none where it is not there."""

    address: str
    lines: tuple[str, ...] = ()

    @property
    def error(self) -> str | None:
        """The step's error where the user can correct it, else None."""
        return user_error(self.lines)

    @property
    def last_lines(self) -> list[str]:
        """The end of what the step itself wrote."""
        own = [line for line in own_lines(self.lines) if line.strip()]
        if self.error is not None and TRACEBACK in own:
            # The error is enough; the frames of the program are in the whole log.
            at = max(number for number, line in enumerate(own) if line == TRACEBACK)
            own = [*own[:at], own[-1]]
        return own[-N_LINES:]


def read_log(pipeline_root: str | None, pipeline: str, run_id: str, task: str, *, of_failed: bool = False) -> StepLog:
    """The newest log of a step's pods; ``of_failed``: of the iterations of a loop, the newest that ends by an error.

    A store that does not answer has none: the end of the run is reported all the same.
    """
    root = (pipeline_root or DEFAULT_ROOT).replace("minio://", "s3://", 1).rstrip("/")
    folder = f"{pipeline}/{run_id}/{task}"
    nothing = StepLog(f"{root}/{folder}")
    try:
        store = Store(root, short_timeouts=True)
        for key in store.newest_first(folder, ARTIFACT)[:MAX_LOGS]:
            text = store.read(key).decode(errors="replace")
            log = StepLog(store.address_of(key), tuple(line.rstrip() for line in text.splitlines()))
            if not of_failed or TRACEBACK in log.lines:
                return log
    except (LorryError, FileNotFoundError):
        return nothing
    return nothing


def own_lines(lines: Iterable[str]) -> list[str]:
    """What the step itself wrote: without the lines of Kubeflow's launcher and executor, and its inputs."""
    own, in_inputs = [], False
    for line in lines:
        if in_inputs:
            in_inputs = line != "}"
        elif _AROUND.match(line):
            in_inputs = line.endswith(INPUTS_FOLLOW)
        else:
            own.append(line)
    return own


def step_log(kubeflow: Kubeflow, kubectl: Kubectl, run_id: str, step: str, pipeline_root: str | None) -> list[StepLog]:
    """The log of a step of a run: from its pod while it runs, then from the store; one for each pod where several run.

    Raises:
        StepFailedError: the step has no log: it has not started, or was reused.
        ClusterError: the run is not Lorry's; the endpoint or the cluster refuses or does not answer.
    """
    run = kubeflow.run(run_id)
    facts = RunFacts(run, {})
    facts.require_lorrys()
    details = (run.run_details.task_details if run.run_details else None) or []
    found = [one for one in steps_of(details, tuple(STEPS)) if one.step == step]
    with_pod = [one for one in found if one.pod is not None]
    if not with_pod:
        raise StepFailedError(f"run {run_id}: {step} {_why_no_pod(found, run_id, kubeflow.page_of(run_id))}")
    logs = [log for one in with_pod if one.state == "running" and (log := _of_pod(kubectl, one)) is not None]
    if logs:
        return logs
    stored = read_log(pipeline_root or facts.pipeline_root, facts.pipeline, run_id, with_pod[-1].task)
    if stored.lines:
        return [stored]
    if (log := _of_pod(kubectl, with_pod[-1])) is not None:
        return [log]
    raise ClusterError(
        f"run {run_id}: {step}: its pod is gone, and its log is not in Kubeflow's store ({stored.address}); where "
        "Kubeflow keeps its artifacts elsewhere, give --pipeline-root"
    )


def _why_no_pod(found: list[RunStep], run_id: str, page: str) -> str:
    """Why a step has had no pod."""
    if any(one.in_driver and one.state == "failed" for one in found):
        return f"has no log: Kubeflow's driver failed before the step began; see {page}"
    if found and all(one.state == "reused" for one in found):
        return "was reused from an earlier run, and has no log in this one"
    return f"has not started; what is waited for: lorry runs follow {run_id}"


def _of_pod(kubectl: Kubectl, step: RunStep) -> StepLog | None:
    """The log of a step's newest pod, None where that is gone."""
    arguments = ("logs", str(step.pod), f"--container={CONTAINER}")
    try:
        return StepLog(kubectl.command(*arguments), tuple(kubectl.run(*arguments).splitlines()))
    except MissingObjectError:
        return None
