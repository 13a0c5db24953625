"""The memory of this process and its container: the peak, the limit, and how many processes the kernel killed."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from components.runtime.cgroups import groups_of, read_words

# cgroup v1 gives a number above this where there is no limit.
UNLIMITED_BYTES = 1 << 60


def oom_kills(root: Path = Path("/")) -> int:
    """The number of processes of this container that the kernel has killed because memory ran out."""
    counts = []
    for folder in groups_of("memory", root)[:1]:
        for name in ("memory.events", "memory.oom_control"):
            words = read_words(folder / name)
            counts += [int(words[at + 1]) for at, word in enumerate(words) if word == "oom_kill"]
    return max(counts, default=0)


def memory_limit(root: Path = Path("/")) -> int | None:
    """The memory limit in bytes: the lowest of this process's group and all its parents; None without a limit."""
    limits = []
    for folder in groups_of("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = read_words(folder / name)
            limits += [int(word) for word in words[:1] if word.isdigit() and int(word) < UNLIMITED_BYTES]
    return min(limits, default=None)


def peak_memory(status: Path = Path("/proc/self/status")) -> int:
    """The most memory in bytes that this process, or one of its children that ended, has had resident.

    Pages of mapped files count, although the kernel can take them back.
    """
    words = read_words(status)
    # A process begins with its parent's peak in its resource usage; Linux knows its own.
    own = int(words[words.index("VmHWM:") + 1]) if "VmHWM:" in words else _resident_kilobytes(resource.RUSAGE_SELF)
    return max(own, _resident_kilobytes(resource.RUSAGE_CHILDREN)) * 1024


def _resident_kilobytes(who: int) -> int:
    found = resource.getrusage(who).ru_maxrss
    return found // 1024 if sys.platform == "darwin" else found
