"""The control groups (cgroup v1 and v2) of this process, which hold the limits of its container."""

from __future__ import annotations

from pathlib import Path


def groups_of(controller: str, root: Path = Path("/")) -> list[Path]:
    """The folders of this process's groups, its own first, then the parents; ``controller`` is ``cpu`` or ``memory``.

    Inside a container the path in /proc/self/cgroup can be the host's; the container's own group is then the mount.
    """
    folders: list[Path] = []
    for mount, path in _hierarchies(controller, root):
        inside = mount / path.lstrip("/")
        folder = inside if inside.is_dir() else mount
        folders += [folder, *(parent for parent in folder.parents if parent.is_relative_to(mount))]
    return folders


def _hierarchies(controller: str, root: Path) -> list[tuple[Path, str]]:
    """The mount point of each hierarchy that may hold the controller, and this process's path in it."""
    listed = root / "proc/self/cgroup"
    mounts = root / "sys/fs/cgroup"
    if not listed.is_file():
        return []
    found = []
    for line in listed.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            # v2 is mounted at the top when it is alone, and in a folder of its own beside v1.
            unified = mounts / "unified"
            found.append((unified if unified.is_dir() else mounts, path))
        elif controller in controllers.split(","):
            names = dict.fromkeys((controllers, controller, "cpu,cpuacct"))
            found += [(mount, path) for name in names if (mount := mounts / name).is_dir() and controller in name]
    return found


def read_words(path: Path) -> list[str]:
    """The white-space separated words of a group's file; none where the file does not exist."""
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
