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


def peak_memory() -> int:
    """The most memory in bytes that this process, or one of its children that ended, has had resident.

    Pages of mapped files count, although the kernel can take them back.
    """
    kilobytes = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024
