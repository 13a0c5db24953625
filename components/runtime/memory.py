"""How much memory the container of this process has, and whether the kernel killed something in it for want of it."""

from __future__ import annotations

from pathlib import Path

from components.runtime.cgroups import groups_of, read_words

# What cgroup v1 says where nothing limits it, and more than any machine has.
UNLIMITED_BYTES = 1 << 60


def oom_kills(root: Path = Path("/")) -> int:
    """How many processes of this container the kernel has killed for want of memory."""
    counts = []
    for folder in groups_of("memory", root)[:1]:
        for name in ("memory.events", "memory.oom_control"):
            words = read_words(folder / name)
            counts += [int(words[at + 1]) for at, word in enumerate(words) if word == "oom_kill"]
    return max(counts, default=0)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that this container may hold: the tightest of its group and all its parents, or None without a limit."""
    limits = []
    for folder in groups_of("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = read_words(folder / name)
            limits += [int(word) for word in words[:1] if word.isdigit() and int(word) < UNLIMITED_BYTES]
    return min(limits, default=None)
