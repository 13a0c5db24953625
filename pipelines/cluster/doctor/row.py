"""One line of the doctor's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "missing"]
# What a check says that would need a pod in the cluster.
NOT_PROBED = "not probed (--probe looks with a short-lived pod)"


@dataclass(frozen=True)
class Row:
    """A check and its result: ``fix`` is the command that corrects it, or a shell comment that says what does."""

    group: str
    check: str
    state: State
    found: str
    fix: str = ""
