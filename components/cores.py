"""How many cores this process may use: its affinity, and the CPU quota of its container (cgroup v1 and v2)."""

from __future__ import annotations

import math
import os
from pathlib import Path

UNLIMITED_V2 = "max"


def usable_cores(root: Path = Path("/")) -> int:
    """Whole cores, at least 1; a quota of 2.5 cores counts as 2. ``root`` is where /proc and /sys are looked for.

    A thread more than the quota allows does not run beside the others but stops them all for the rest of a period.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that the control groups of this process allow; None where nothing limits it.

    The tightest of the group and all its parents counts, as the kernel does it.
    """
    quotas = [quota for folder in _groups(root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _groups(root: Path) -> list[Path]:
    """The folders of this process's CPU groups, parents included.

    Inside a container the path in /proc/self/cgroup can be the host's; the container's own group is then the mount.
    """
    folders: list[Path] = []
    for mount, path in _hierarchies(root):
        inside = mount / path.lstrip("/")
        folder = inside if inside.is_dir() else mount
        folders += [folder, *(parent for parent in folder.parents if parent.is_relative_to(mount))]
    return folders


def _hierarchies(root: Path) -> list[tuple[Path, str]]:
    """Where each hierarchy that may limit CPU time is mounted, and this process's path in it."""
    listed = root / "proc/self/cgroup"
    mounts = root / "sys/fs/cgroup"
    if not listed.is_file():
        return []
    found = []
    for line in listed.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            # v2 alone is mounted at the top; beside v1 it lies in a folder of its own.
            unified = mounts / "unified"
            found.append((unified if unified.is_dir() else mounts, path))
        elif "cpu" in controllers.split(","):
            found += [
                (mount, path) for name in (controllers, "cpu", "cpu,cpuacct") if (mount := mounts / name).is_dir()
            ]
    return found


def _quota_of(folder: Path) -> float | None:
    v2 = _words(folder / "cpu.max")
    if v2:
        quota, period = v2[0], v2[1] if len(v2) > 1 else "100000"
    else:
        v1 = [_words(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        if not all(v1):
            return None
        quota, period = v1[0][0], v1[1][0]
    if quota == UNLIMITED_V2 or int(quota) <= 0 or int(period) <= 0:
        return None
    return int(quota) / int(period)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
