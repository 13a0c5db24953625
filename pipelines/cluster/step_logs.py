"""The log of a step on a cluster: Kubeflow keeps each pod's in its own store, as the artifact ``executor-logs``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.errors import LorryError
from components.storage.store import Store
from pipelines.terminal.user_errors import user_error

# Kubeflow's own setting where neither run nor namespace has another (kfp-launcher's defaultPipelineRoot).
DEFAULT_ROOT = "s3://mlpipeline/v2/artifacts"
ARTIFACT = "executor-logs"
N_LINES = 12
# Of the iterations of a loop, as many are read.
MAX_LOGS = 50
TRACEBACK = "Traceback (most recent call last):"

# Lines of Kubeflow's launcher and executor around the step's own.
_AROUND = re.compile(r"^([IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ |\[KFP Executor |Looking for component|Loading KFP component)")


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
        own = [line for line in self.lines if line.strip() and not _AROUND.match(line)]
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
