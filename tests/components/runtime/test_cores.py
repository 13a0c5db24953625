"""Threads from the quota: trees of control groups as containers and nodes have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.runtime.cores import cpu_quota, usable_cores


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


V1 = "5:memory:/\n4:cpu,cpuacct:{path}\n1:name=systemd:/\n"
TREES = {
    "v2, in the container": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
    "v2, fractional": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
    "v2, unlimited": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "v2, without a period": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000\n"}, 0.5),
    "v2, a parent is tighter": (
        {
            "proc/self/cgroup": "0::/kubepods/pod1/box\n",
            "sys/fs/cgroup/kubepods/cpu.max": "max 100000\n",
            "sys/fs/cgroup/kubepods/pod1/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/kubepods/pod1/box/cpu.max": "400000 100000\n",
        },
        3.0,
    ),
    "v2, the host's path inside a container": (
        {"proc/self/cgroup": "0::/kubepods/pod1/box\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"},
        1.0,
    ),
    "v1": (
        {
            "proc/self/cgroup": V1.format(path="/"),
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        1.5,
    ),
    "v1, unlimited": (
        {
            "proc/self/cgroup": V1.format(path="/"),
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "v1, the host's path inside a container": (
        {
            "proc/self/cgroup": V1.format(path="/docker/abc"),
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
        },
        4.0,
    ),
    "v1 and v2 side by side": (
        {
            "proc/self/cgroup": "4:cpu:/box\n0::/\n",
            "sys/fs/cgroup/unified/cgroup.procs": "",
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        2.0,
    ),
    "no control groups": ({"proc/self/status": ""}, None),
}


@pytest.mark.parametrize("name", TREES)
def test_the_quota_is_found(tmp_path, name):
    files, quota = TREES[name]
    assert cpu_quota(tree(tmp_path, files)) == quota


@pytest.mark.parametrize(("limit", "cores"), [("250000", 2), ("50000", 1), ("1000000", 8), ("max", 8)])
def test_cores_are_whole_at_least_one_and_never_more_than_the_affinity(tmp_path, monkeypatch, limit, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{limit} 100000\n"}
    assert usable_cores(tree(tmp_path, files)) == cores
