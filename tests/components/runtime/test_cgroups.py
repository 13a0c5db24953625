"""The folders of this process's control groups, in trees as kernels and container runtimes make them."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.runtime.cgroups import groups_of, read_words

V1 = "5:memory:/docker/box\n4:cpu,cpuacct:/docker/box\n1:name=systemd:/\n"


def tree(root: Path, cgroup: str | None, *folders: str) -> Path:
    if cgroup is not None:
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(cgroup)
    for folder in folders:
        (root / "sys/fs/cgroup" / folder).mkdir(parents=True)
    return root


@pytest.mark.parametrize(
    ("controller", "cgroup", "folders", "expected"),
    [
        ("cpu", "0::/pods/pod/box\n", ["pods/pod/box"], ["pods/pod/box", "pods/pod", "pods", ""]),
        ("cpu", "0::/pods/pod/box\n", [""], [""]),  # the host's path, seen inside of the container
        ("memory", V1, ["memory/docker/box"], ["memory/docker/box", "memory/docker", "memory"]),
        ("cpu", V1, ["cpu,cpuacct/docker/box"], ["cpu,cpuacct/docker/box", "cpu,cpuacct/docker", "cpu,cpuacct"]),
        ("cpu", V1, ["cpu/docker/box"], ["cpu/docker/box", "cpu/docker", "cpu"]),  # a link to cpu,cpuacct, as a rule
        ("memory", "0::/box\n", ["unified/box", "memory"], ["unified/box", "unified"]),  # v2 beside v1
        ("memory", "3:cpuset:/\n", ["cpuset"], []),
        ("cpu", "0::/box:with:colons\n", ["box:with:colons"], ["box:with:colons", ""]),
        ("cpu", None, ["pods"], []),  # no Linux
    ],
)
def test_the_groups_are_the_own_one_and_its_parents(tmp_path, controller, cgroup, folders, expected):
    root = tree(tmp_path, cgroup, *folders)
    assert groups_of(controller, root) == [root / "sys/fs/cgroup" / name for name in expected]


def test_the_words_of_a_file_that_is_not_there_are_none(tmp_path):
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert read_words(tmp_path / "cpu.max") == ["max", "100000"]
    assert read_words(tmp_path / "none") == []
    assert read_words(tmp_path) == []
