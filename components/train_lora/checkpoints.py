"""Checkpoints that survive a kill: written aside, hashed, renamed; resumed from the newest whose hashes hold.

Nothing in transformers, trl or peft saves atomically, and their own look for the last checkpoint takes the highest
number without looking inside.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from components.errors import BusyError, ModelError

log = logging.getLogger(__name__)

PREFIX = "checkpoint-"
STAGING = ".writing"
SEAL = "files.json"


def run_key(identity: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that name a run by everything that changes its weights."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir`` for this process; the lock goes away with the process, however it ends.

    Raises:
        BusyError: another process trains into this folder.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / "writer.lock", timeout=0)
    writer_path = run_dir / "writer.json"
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{run_dir}: another run (process {_writer(writer_path)}) is training this very recipe; "
            "wait until it ends, or stop it first"
        ) from None
    try:
        writer_path.write_text(json.dumps({"pid": os.getpid()}))
        shutil.rmtree(run_dir / STAGING, ignore_errors=True)
        yield
    finally:
        writer_path.unlink(missing_ok=True)
        lock.release()


def _writer(path: Path) -> str:
    """The process that holds the lock; it may be just about to write this."""
    try:
        return str(json.loads(path.read_text())["pid"])
    except (OSError, ValueError):
        return "unknown"


def publish(run_dir: Path, name: str, run_key: str, keep: int) -> None:
    """Seal ``run_dir/.writing/name`` and give it its place in ``run_dir``; keep the newest ``keep`` checkpoints."""
    staged = run_dir / STAGING / name
    hashes = {str(path.relative_to(staged)): _digest(path) for path in sorted(staged.rglob("*")) if path.is_file()}
    _write_durably(staged / SEAL, json.dumps({"run_key": run_key, "files": hashes}, indent=1).encode())
    _sync(staged)
    target = run_dir / name
    shutil.rmtree(target, ignore_errors=True)  # of the same step: damaged, or the same
    staged.rename(target)
    _sync(run_dir)
    shutil.rmtree(run_dir / STAGING, ignore_errors=True)
    if name.startswith(PREFIX):
        # A run that has gone back behind a damaged one comes past it again.
        ahead = [path for path in kept(run_dir) if step_of(path) > step_of(target)]
        for old in (*ahead, *kept(run_dir)[len(ahead) + keep :]):
            shutil.rmtree(old)


def newest_valid(run_dir: Path, run_key: str) -> Path | None:
    """The newest checkpoint whose files are all as they were written, or None.

    Raises:
        ModelError: it is another run's, copied here.
    """
    for checkpoint in kept(run_dir):
        try:
            seal = _read_seal(checkpoint)
            _require_undamaged(checkpoint, seal)
        except _DamagedError as damage:
            log.warning("%s is skipped: %s", checkpoint, damage)
            continue
        if seal["run_key"] != run_key:
            raise ModelError(
                f"{checkpoint}: is a checkpoint of run {seal['run_key']}, not of {run_key}: with other data, settings "
                "or code; take it out of this folder and run again"
            )
        return checkpoint
    return None


def newest(run_dir: Path) -> Path | None:
    """The newest checkpoint by its name, or None."""
    return next(iter(kept(run_dir)), None)


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint folder's name tells."""
    return int(checkpoint.name.removeprefix(PREFIX))


def kept(run_dir: Path) -> list[Path]:
    """Every checkpoint that is there, the newest first."""
    named = (path for path in run_dir.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal())
    return sorted(named, key=step_of, reverse=True)


def require_whole(folder: Path) -> None:
    """Check that what was published is as it was written.

    Raises:
        ModelError: it is gone or damaged.
    """
    try:
        _require_undamaged(folder, _read_seal(folder))
    except _DamagedError as damage:
        raise ModelError(
            f"{folder}: {damage}; set train.checkpoint: final, or remove {folder.parent} and train again"
        ) from None


class _DamagedError(Exception):
    """What is wrong with a checkpoint."""


def _read_seal(checkpoint: Path) -> dict[str, Any]:
    try:
        seal: dict[str, Any] = json.loads((checkpoint / SEAL).read_text())
        _ = seal["run_key"], seal["files"].items()
    except FileNotFoundError:
        raise _DamagedError(f"it has no {SEAL}, so it was never finished") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _DamagedError(f"its {SEAL} cannot be read") from None
    return seal


def _require_undamaged(checkpoint: Path, seal: dict[str, Any]) -> None:
    for name, digest in seal["files"].items():
        path = checkpoint / name
        if not path.is_file():
            raise _DamagedError(f"{name} is missing")
        if _digest(path) != digest:
            raise _DamagedError(f"{name} has changed since it was written")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
