"""Checkpoint folders: which are a run's, which are in use, and a deletion under the trainer's own lock."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.collect_garbage import checkpoint_items
from components.collect_garbage.checkpoint_items import (
    LOCK,
    WRITER,
    delete_checkpoints,
    list_checkpoints,
    measured,
    remove_folder,
)
from components.collect_garbage.items import GONE, Item
from components.collect_garbage.places import list_place
from components.errors import StoreError
from components.train_lora.checkpoints import lock_run
from tests.conftest import ROOT

KEYS = ("0123456789abcdef", "fedcba9876543210")


def make(root: Path, key: str = KEYS[0], days: float = 40) -> Path:
    folder = root / key
    (folder / "checkpoint-3").mkdir(parents=True)
    (folder / "checkpoint-3" / "weights").write_bytes(b"w" * 100)
    (folder / LOCK).touch()
    age(folder, days)
    return folder


def age(folder: Path, days: float) -> None:
    for path in (*folder.rglob("*"), folder):
        written = path.stat().st_mtime - 86400 * days
        os.utime(path, (written, written))


def listed(root: Path, key: str = KEYS[0]) -> Item:
    return next(item for item in list_checkpoints(root).items if item.name == key)


def test_the_folders_of_runs_are_listed_with_their_size_and_age(tmp_path):
    folder = make(tmp_path)
    make(tmp_path, KEYS[1], days=1)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "notes").mkdir()
    listing = list_place(str(tmp_path))
    assert [(item.name, item.size_bytes, item.held) for item in listing.items] == [
        (KEYS[0], 100, None), (KEYS[1], 100, None),
    ]  # fmt: skip
    assert (listing.kind, listing.foreign) == ("checkpoints", ["notes"])
    assert listing.items[0].modified.timestamp() == pytest.approx(folder.stat().st_mtime, abs=1e-5)


def test_an_empty_root_has_nothing_and_a_foreign_one_is_refused(tmp_path):
    assert list_place(str(tmp_path)).items == []
    (tmp_path / "checkpoint-500").mkdir()
    # A name of the right form alone is no run's.
    (tmp_path / KEYS[0]).mkdir()
    with pytest.raises(
        StoreError, match=r"is no checkpoint root of Lorry's \(it holds 0123456789abcdef, checkpoint-500\)"
    ):
        list_place(str(tmp_path))


def test_the_names_of_lock_and_writer_are_the_trainers(tmp_path):
    with lock_run(tmp_path / KEYS[0]):
        assert {path.name for path in (tmp_path / KEYS[0]).iterdir()} == {LOCK, WRITER}


def test_a_folder_that_a_run_trains_into_is_held_and_stays(tmp_path):
    make(tmp_path)
    old = listed(tmp_path)
    with lock_run(tmp_path / KEYS[0]):
        assert listed(tmp_path).held == "a run is training into it now (it holds the lock)"
        assert delete_checkpoints(tmp_path, old) == "a run has begun to train into it"
    assert (tmp_path / KEYS[0] / "checkpoint-3" / "weights").is_file()


def as_on_nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse an exclusive lock on a descriptor that may not write, as NFS does."""
    flock = fcntl.flock

    def refuse(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_on_nfs_the_lock_holds_and_an_unlocked_folder_goes(tmp_path, monkeypatch):
    as_on_nfs(monkeypatch)
    make(tmp_path)
    old = listed(tmp_path)
    with lock_run(tmp_path / KEYS[0]):
        assert listed(tmp_path).held == "a run is training into it now (it holds the lock)"
        assert delete_checkpoints(tmp_path, old) == "a run has begun to train into it"
    age(tmp_path / KEYS[0], 2)
    assert delete_checkpoints(tmp_path, listed(tmp_path)) is None


@pytest.mark.parametrize(("refusal", "flags"), [(errno.EROFS, os.ST_RDONLY), (errno.EACCES, 0)])
def test_on_nfs_a_listing_that_may_not_lock_is_no_error(tmp_path, monkeypatch, refusal, flags):
    folder = make(tmp_path)
    (folder / WRITER).write_text('{"pid": 1}')
    age(folder, 2)
    as_on_nfs(monkeypatch)
    open_file = os.open

    def refuse(path: Path, mode: int, *more: int, **named: int) -> int:
        if mode & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(refusal, "refused")
        return open_file(path, mode, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_flag=flags))
    # A volume is listed read-only; where it is mounted to delete, the lock is tried again.
    assert (listed(tmp_path).held is None) == (refusal == errno.EROFS)


def test_a_folder_that_a_pod_of_another_node_may_write_stays_for_a_day(tmp_path):
    folder = make(tmp_path)
    (folder / WRITER).write_text('{"pid": 1}')
    assert "a run may be training into it" in (listed(tmp_path).held or "")
    item = listed(tmp_path)
    assert "a run may be training into it" in (delete_checkpoints(tmp_path, item) or "")
    age(folder, 2)
    assert listed(tmp_path).held is None
    assert delete_checkpoints(tmp_path, listed(tmp_path)) is None


def test_a_folder_that_was_written_to_since_it_was_listed_stays(tmp_path):
    folder = make(tmp_path)
    item = listed(tmp_path)
    (folder / "checkpoint-6").mkdir()
    assert delete_checkpoints(tmp_path, item) == "it was written to since it was listed"
    assert (folder / "checkpoint-3" / "weights").is_file()


def test_a_deletion_leaves_the_other_folders(tmp_path):
    make(tmp_path)
    make(tmp_path, KEYS[1])
    assert delete_checkpoints(tmp_path, listed(tmp_path)) is None
    assert [path.name for path in tmp_path.iterdir()] == [KEYS[1]]
    # Two at once: the second finds nothing to do.
    gone = listed(tmp_path, KEYS[1]).model_copy(update={"name": KEYS[0]})
    assert delete_checkpoints(tmp_path, gone) == GONE


def test_a_run_that_begins_while_its_folder_goes_waits_and_gets_a_new_one(tmp_path, monkeypatch):
    make(tmp_path)
    code = (
        "import sys; from pathlib import Path; from components.train_lora.checkpoints import lock_run\n"
        "with lock_run(Path(sys.argv[1])): print(sorted(p.name for p in Path(sys.argv[1]).iterdir()))"
    )
    children: list[subprocess.Popen[str]] = []

    def begin_a_run_meanwhile(folder: Path) -> None:
        command = [sys.executable, "-c", code, str(tmp_path / KEYS[0])]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        remove_folder(folder)

    monkeypatch.setattr(checkpoint_items, "remove_folder", begin_a_run_meanwhile)
    assert delete_checkpoints(tmp_path, listed(tmp_path)) is None
    out, _ = children[0].communicate(timeout=60)
    assert out.strip() == f"['{WRITER}', '{LOCK}']"


def test_what_an_interrupted_gc_left_is_listed_and_goes(tmp_path, monkeypatch):
    folder = make(tmp_path)
    item = listed(tmp_path)

    def stop(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_items.shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        delete_checkpoints(tmp_path, item)
    monkeypatch.undo()
    assert not folder.exists()
    left = listed(tmp_path, f".gc-{KEYS[0]}")
    assert left.unfinished == "left by a gc that was interrupted"
    assert delete_checkpoints(tmp_path, left) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_changed_is_one_line_and_loses_nothing(tmp_path, monkeypatch):
    folder = make(tmp_path)
    item = listed(tmp_path)

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError, match=rf"^{folder}: user \d+ has no right to it \(Permission denied\)") as caught:
        delete_checkpoints(tmp_path, item)
    assert len(str(caught.value).splitlines()) == 1
    assert measured(folder)[0] == 100


def test_a_path_that_is_not_there_or_a_file_is_one_line(tmp_path):
    with pytest.raises(StoreError, match="missing: no such folder; correct the path"):
        list_place(str(tmp_path / "missing"))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file: is a file; give a folder"):
        list_place(str(tmp_path / "file"))


def test_a_folders_age_is_that_of_its_newest_file(tmp_path):
    folder = make(tmp_path)
    newest = folder / "checkpoint-3" / "weights"
    os.utime(newest, (1e9, 2e9))
    size, modified = measured(folder)
    assert (size, modified.timestamp()) == (100, 2e9)
    assert modified - listed(tmp_path).modified == timedelta(0)
