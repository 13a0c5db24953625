"""The memory limit of this process's container, and the number of processes in it that the kernel killed."""

from __future__ import annotations

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
