"""Free space on the disk, checked before the work starts."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from components.errors import DiskSpaceError
from components.runtime.disk_space import COPIES, SLACK_BYTES, require_export_space, require_free_space, required_bytes

Usage = namedtuple("Usage", "total used free")
GIB = 2**30


def disk(monkeypatch: pytest.MonkeyPatch, free: int) -> list[Path]:
    """A disk with so many free bytes; the paths that are asked for."""
    asked: list[Path] = []

    def usage(path: Path) -> Usage:
        asked.append(path)
        return Usage(free, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return asked


def test_an_export_needs_three_copies_of_the_weights_and_a_little_more():
    assert required_bytes(0) == SLACK_BYTES
    assert required_bytes(GIB) == COPIES * GIB + SLACK_BYTES


@pytest.mark.parametrize(("missing", "is_enough"), [(0, True), (1, False)])
def test_the_last_byte_counts(monkeypatch, tmp_path, missing, is_enough):
    disk(monkeypatch, required_bytes(5 * GIB) - missing)
    if is_enough:
        require_export_space(tmp_path, 5 * GIB)
        return
    with pytest.raises(DiskSpaceError, match=rf"{tmp_path}: the export needs 15.06 GiB .* free some space, or choose"):
        require_export_space(tmp_path, 5 * GIB)


def test_the_message_has_what_is_needed_and_what_is_free(monkeypatch, tmp_path):
    disk(monkeypatch, GIB // 2)
    with pytest.raises(DiskSpaceError, match=r"the copy needs 2\.00 GiB and the disk has 0\.50 GiB free") as caught:
        require_free_space(tmp_path, 2 * GIB, "the copy")
    assert "--workdir" in str(caught.value)


def test_a_folder_that_does_not_exist_yet_is_measured_at_its_nearest_parent(monkeypatch, tmp_path):
    asked = disk(monkeypatch, GIB)
    require_free_space(tmp_path / "runs" / "new" / "model", 1, "it")
    monkeypatch.chdir(tmp_path)
    require_free_space(Path("new/model"), 1, "it")
    assert asked == [tmp_path, tmp_path]
    assert list(tmp_path.iterdir()) == [], "nothing is created by the check"
