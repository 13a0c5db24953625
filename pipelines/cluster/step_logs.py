"""The log of a step on a cluster: Kubeflow keeps each pod's in its own store, as the artifact ``executor-logs``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from components.errors import LorryError
from components.storage.store import Store

# Kubeflow's own setting where neither run nor namespace has another (kfp-launcher's defaultPipelineRoot).
DEFAULT_ROOT = "s3://mlpipeline/v2/artifacts"
ARTIFACT = "executor-logs"
N_LINES = 12
# Of the iterations of a loop, as many are looked at.
MAX_LOGS = 50
TRACEBACK = "Traceback (most recent call last):"

# The last line of a step's traceback when the error is one that the user can mend.
_USER_ERROR = re.compile(r"^components\.errors\.\w+: (.*)$")
# What Kubeflow's launcher and executor say around the step's own words.
_AROUND = re.compile(r"^([IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ |\[KFP Executor |Looking for component|Loading KFP component)")


@dataclass(frozen=True)
class StepLog:
    """Where a step's log lies, and its lines; none where it is not there."""

    address: str
    lines: tuple[str, ...] = ()

    @property
    def error(self) -> str | None:
        """What the step said that the user can mend."""
        return user_error(self.lines)

    @property
    def last_lines(self) -> list[str]:
        """The end of what the step itself wrote."""
        own = [line for line in self.lines if line.strip() and not _AROUND.match(line)]
        if self.error is not None and TRACEBACK in own:
            # The error says it all; where in the program it was raised is in the whole log.
            at = max(number for number, line in enumerate(own) if line == TRACEBACK)
            own = [*own[:at], own[-1]]
        return own[-N_LINES:]


def user_error(lines: Sequence[str]) -> str | None:
    """The message of the last error among ``lines`` that the user can mend, or None."""
    for line in reversed(lines):
        if match := _USER_ERROR.match(line):
            return match[1]
    return None


def read_log(pipeline_root: str | None, pipeline: str, run_id: str, task: str, *, of_failed: bool = False) -> StepLog:
    """The newest log of a step's pods; ``of_failed``: of the iterations of a loop, the newest that ends by an error.

    A store that does not answer has none: the run's end is what is to be said.
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
