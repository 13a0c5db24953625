"""The container's memory, from files as cgroup v1 and v2 have them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.runtime.memory import memory_limit, oom_kills, peak_memory

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "kills", "limit"),
    [
        ({"proc/self/cgroup": "0::/pod", "sys/fs/cgroup/memory.events": "low 0\noom 2\noom_kill 1\n",
          "sys/fs/cgroup/memory.max": f"{4 * GIB}\n"}, 1, 4 * GIB),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max\n"}, 0, None),
        ({"proc/self/cgroup": "4:memory:/pod", "sys/fs/cgroup/memory/memory.oom_control": "under_oom 0\noom_kill 2\n",
          "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 2, None),
        ({"proc/self/cgroup": "4:memory:/pod", "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n"}, 0, GIB),
        ({}, 0, None),
    ],
    ids=["v2", "v2 without a limit", "v1 without a limit", "v1", "neither"],
)  # fmt: skip
def test_the_memory_of_the_container_is_read_from_its_control_group(files, kills, limit, tmp_path):
    root = write(tmp_path, files)
    assert oom_kills(root) == kills
    assert memory_limit(root) == limit


def test_the_lowest_limit_of_all_parents_counts_and_the_kills_of_the_own_group_alone(tmp_path):
    """A parent counts the kills of all containers of the pod, or of the node."""
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box",
            "sys/fs/cgroup/pod/memory.max": f"{2 * GIB}",
            "sys/fs/cgroup/pod/box/memory.max": f"{3 * GIB}",
            "sys/fs/cgroup/pod/memory.events": "oom_kill 7\n",
            "sys/fs/cgroup/pod/box/memory.events": "oom_kill 1\n",
        },
    )
    assert memory_limit(root) == 2 * GIB
    assert oom_kills(root) == 1


def test_the_peak_counts_what_was_given_back_and_children_that_ended(tmp_path):
    program = (
        "import subprocess, sys; from components.runtime.memory import peak_memory; before = peak_memory();"
        "x = b'1' * 60_000_000; del x; own = peak_memory();"
        "subprocess.run([sys.executable, '-c', \"b'1' * 300_000_000\"]); print(before, own, peak_memory())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, own, with_child = map(int, done.stdout.split())
    assert own - before > 50_000_000
    assert with_child > 300_000_000
    assert peak_memory(tmp_path / "not Linux") > 10_000_000
