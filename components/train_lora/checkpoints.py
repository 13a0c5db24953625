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

from components.errors import BusyError

log = logging.getLogger(__name__)

PREFIX = "checkpoint-"
STAGING = ".writing"
SEAL = "files.json"


def run_key(identity: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that name a run by everything that changes its weights."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def sole_writer(run_dir: Path) -> Iterator[None]:
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


def publish(run_dir: Path, name: str, keep: int) -> None:
    """Seal ``run_dir/.writing/name``, give it its place in ``run_dir`` and remove all but the newest ``keep``."""
    staged = run_dir / STAGING / name
    hashes = {str(path.relative_to(staged)): _digest(path) for path in sorted(staged.rglob("*")) if path.is_file()}
    _write_durably(staged / SEAL, json.dumps(hashes, indent=1).encode())
    target = run_dir / name
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
    _sync(run_dir)
    for old in _by_step(run_dir)[keep:]:
        shutil.rmtree(old)


def newest_valid(run_dir: Path) -> Path | None:
    """The newest checkpoint whose files are all as they were written, or None."""
    for checkpoint in _by_step(run_dir):
        damage = _damage(checkpoint)
        if damage is None:
            return checkpoint
        log.warning("%s is skipped: %s", checkpoint, damage)
    return None


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint folder's name tells."""
    return int(checkpoint.name.removeprefix(PREFIX))


def _by_step(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob(f"{PREFIX}*"), key=step_of, reverse=True)


def _damage(checkpoint: Path) -> str | None:
    seal = checkpoint / SEAL
    if not seal.is_file():
        return f"it has no {SEAL}, so it was never finished"
    for name, digest in json.loads(seal.read_text()).items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if _digest(path) != digest:
            return f"{name} has changed since it was written"
    return None


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
