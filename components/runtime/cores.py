"""The number of cores that this process may use: its affinity and its container's CPU quota (cgroup v1 and v2)."""

from __future__ import annotations

import math
import os
from pathlib import Path

from components.runtime.cgroups import groups_of, read_words

UNLIMITED_V2 = "max"


def usable_cores(root: Path = Path("/")) -> int:
    """Whole cores, at least 1; a quota of 2.5 cores counts as 2. ``root`` is the folder that holds /proc and /sys.

    With one thread more than the quota allows, the kernel stops all threads for the rest of each period.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores that the control groups of this process allow, a fraction possible; None without a limit.

    The lowest limit of the group and all its parents counts, as in the kernel.
    """
    quotas = [quota for folder in groups_of("cpu", root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _quota_of(folder: Path) -> float | None:
    v2 = read_words(folder / "cpu.max")
    if v2:
        quota, period = v2[0], v2[1] if len(v2) > 1 else "100000"
    else:
        v1 = [read_words(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        if not all(v1):
            return None
        quota, period = v1[0][0], v1[1][0]
    if quota == UNLIMITED_V2 or int(quota) <= 0 or int(period) <= 0:
        return None
    return int(quota) / int(period)
