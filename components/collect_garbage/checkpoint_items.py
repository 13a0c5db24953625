"""The checkpoint folders of runs, ``<root>/<run_key>``: listed with their locks, and deleted under them."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from components.collect_garbage.items import GONE, REMOVED, Item, Listing
from components.collect_garbage.store_items import foreign_place
from components.errors import StoreError

# The names that components/train_lora/checkpoints.py uses; the image of the Job has no library of the trainer.
LOCK = "writer.lock"
WRITER = "writer.json"
HISTORY = "history.jsonl"
CHECKPOINTS = ("checkpoint-*", "best-*")
_RUN_KEY = re.compile(r"^[0-9a-f]{16}$")
SURELY_ENDED = timedelta(days=1)


def is_checkpoint_root(folder: Path) -> bool:
    """Whether a folder holds checkpoint folders."""
    return any(is_checkpoint_folder(child) for child in folder.iterdir())


def is_checkpoint_folder(folder: Path) -> bool:
    """Whether a folder is that of a run's checkpoints, or was before a gc was killed."""
    if not _RUN_KEY.match(folder.name.removeprefix(REMOVED)) or folder.is_symlink() or not folder.is_dir():
        return False
    traces = (folder / LOCK, folder / HISTORY, *(path for pattern in CHECKPOINTS for path in folder.glob(pattern)))
    return any(path.exists() for path in traces) or folder.name.startswith(REMOVED)


def list_checkpoints(root: Path) -> Listing:
    """The checkpoint folders of a root.

    Raises:
        StoreError: it cannot be read, or holds none.
    """
    with readable(root):
        children = sorted(root.iterdir())
        own = [child for child in children if is_checkpoint_folder(child)]
        # What a file system keeps for itself is no other program's.
        foreign = [child.name for child in children if child not in own and child.name != "lost+found"]
        if not own and foreign:
            raise StoreError(foreign_place(str(root), foreign, "checkpoint root"))
        return Listing(kind="checkpoints", items=[_item(folder) for folder in own], foreign=foreign)


def _item(folder: Path) -> Item:
    size, modified = measured(folder)
    removed = folder.name.startswith(REMOVED)
    return Item(
        kind="checkpoints", name=folder.name, size_bytes=size, modified=modified, held=in_use(folder, modified),
        unfinished="left by a gc that was interrupted" if removed else None,
    )  # fmt: skip


def in_use(folder: Path, modified: datetime) -> str | None:
    """Why a run may be writing into a checkpoint folder, or None.

    The lock is tried only where a run has left its trace: a run that begins at this moment must find it free.
    """
    if not (folder / WRITER).exists():
        return None
    with locked(folder) as got:
        return _may_be_elsewhere(folder, modified) if got else "a run is training into it now (it holds the lock)"


def _may_be_elsewhere(folder: Path, modified: datetime) -> str | None:
    """Why a pod on another node, whose lock is not seen on every file system, may be writing there; or None."""
    if (folder / WRITER).exists() and datetime.now(UTC) - modified < SURELY_ENDED:
        return f"its {WRITER} is there and it was written to within a day: a run may be training into it"
    return None


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a checkpoint folder; gives False where a run holds it."""
    try:
        descriptor = _open_lock(folder / LOCK)
    except FileNotFoundError:
        yield True
        return
    try:
        yield _has_locked(descriptor)
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """A descriptor that may write, without which NFS gives no exclusive lock (flock(2)); else one that may read."""
    try:
        return os.open(path, os.O_RDWR)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
    return os.open(path, os.O_RDONLY)


def _has_locked(descriptor: int) -> bool:
    """Lock an open file; of NFS that is mounted read-only the lock is not known, and nothing there can be deleted."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
    return True


def delete_checkpoints(root: Path, item: Item) -> str | None:
    """Delete a checkpoint folder as it was listed; give the reason where it stays.

    Raises:
        StoreError: it cannot be deleted; what is left of it is listed again by the next gc.
    """
    folder = root / item.name
    with readable(folder):
        if not folder.is_dir():
            return GONE
        with locked(folder) as got:
            if not got:
                return "a run has begun to train into it"
            modified = measured(folder)[1]
            if modified != item.modified:
                return "it was written to since it was listed"
            if reason := _may_be_elsewhere(folder, modified):
                return reason
            remove_folder(folder)
    return None


def measured(folder: Path) -> tuple[int, datetime]:
    """The bytes of a folder's files, and when the newest of them or a folder in it was written."""
    size, newest = 0, folder.stat().st_mtime
    for parent, _, names in os.walk(folder):
        for path in (Path(parent), *(Path(parent) / name for name in names)):
            try:
                state = path.lstat()
            except FileNotFoundError:
                continue
            newest = max(newest, state.st_mtime)
            size += state.st_size if path != Path(parent) else 0
    return size, datetime.fromtimestamp(newest, UTC)


def remove_folder(folder: Path) -> None:
    """Remove a folder that, whenever this is interrupted, is there whole or under a name that nothing reads."""
    name = folder.name if folder.name.startswith(REMOVED) else f"{REMOVED}{folder.name}"
    target = folder.with_name(name)
    if target != folder:
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)
    shutil.rmtree(target)


@contextmanager
def readable(place: Path) -> Iterator[None]:
    """Replace the errors of a file system by ones that say what to do.

    Raises:
        StoreError: the folder cannot be read or changed.
    """
    try:
        yield
    except FileNotFoundError:
        raise StoreError(f"{place}: no such folder; correct the path") from None
    except NotADirectoryError:
        raise StoreError(f"{place}: is a file; give a folder") from None
    except PermissionError as error:
        raise StoreError(
            f"{error.filename or place}: user {os.getuid()} has no right to it ({error.strerror}); what was to go "
            "and is still there stays; run it as the user that owns the folder"
        ) from None
