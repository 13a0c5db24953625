"""Checkpoints that survive a kill: written to a staging folder, hashed into a manifest, then renamed.

Training resumes from the newest checkpoint whose files have the hashes of its manifest. Transformers, trl and peft save
in place, and their own search for the last checkpoint takes the highest number without a check of the files.
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
SECONDS_TO_LOCK = 1.0
# JSON: ``run_key``, and ``files``, the sha256 of each file by its path below the checkpoint.
MANIFEST = "files.json"


def run_key(identity: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that identify a run by everything that changes its weights."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Hold the exclusive lock on ``run_dir``; the kernel releases it when the process ends, however it ends.

    Raises:
        BusyError: another process trains into this folder.
    """
    # `lorry gc` may hold the lock for a moment.
    lock = FileLock(run_dir / "writer.lock", timeout=SECONDS_TO_LOCK)
    writer_path = run_dir / "writer.json"
    try:
        _acquire(lock, run_dir)
    except Timeout:
        raise BusyError(
            f"{run_dir}: another run (process {_writer_pid(writer_path)}) is training this very recipe; "
            "wait until it ends, or stop it first"
        ) from None
    try:
        writer_path.write_text(json.dumps({"pid": os.getpid()}))
        shutil.rmtree(run_dir / STAGING, ignore_errors=True)
        yield
    finally:
        writer_path.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, run_dir: Path) -> None:
    """Acquire a run's lock; its folder is made, also anew where `lorry gc` removes it at this very moment."""
    for is_last in (False, True):
        run_dir.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
            return
        except FileNotFoundError:
            if is_last:
                raise


def _writer_pid(path: Path) -> str:
    """The process that holds the lock; ``unknown`` while it has not yet written the file."""
    try:
        return str(json.loads(path.read_text())["pid"])
    except (OSError, ValueError):
        return "unknown"


def publish(run_dir: Path, name: str, run_key: str, keep: int) -> None:
    """Write the manifest of ``run_dir/.writing/name``, move it to ``run_dir/name`` and keep ``keep`` checkpoints."""
    staged = run_dir / STAGING / name
    hashes = {str(path.relative_to(staged)): _digest(path) for path in sorted(staged.rglob("*")) if path.is_file()}
    _write_durably(staged / MANIFEST, json.dumps({"run_key": run_key, "files": hashes}, indent=1).encode())
    _sync(staged)
    target = run_dir / name
    shutil.rmtree(target, ignore_errors=True)  # of the same step: damaged, or the same
    staged.rename(target)
    _sync(run_dir)
    shutil.rmtree(run_dir / STAGING, ignore_errors=True)
    if name.startswith(PREFIX):
        # A run that resumed before a damaged checkpoint writes that step again.
        ahead = [path for path in newest_first(run_dir) if step_of(path) > step_of(target)]
        for old in (*ahead, *newest_first(run_dir)[len(ahead) + keep :]):
            shutil.rmtree(old)


def newest_valid(run_dir: Path, run_key: str) -> Path | None:
    """The newest checkpoint whose files have the hashes of its manifest, or None.

    Raises:
        ModelError: it belongs to another run.
    """
    for checkpoint in newest_first(run_dir):
        try:
            manifest = _read_manifest(checkpoint)
            _require_undamaged(checkpoint, manifest)
        except _DamagedError as damage:
            log.warning("%s is skipped: %s", checkpoint, damage)
            continue
        if manifest["run_key"] != run_key:
            raise ModelError(
                f"{checkpoint}: is a checkpoint of run {manifest['run_key']}, not of {run_key}: with other data, "
                "settings or code; remove it from this folder and run again"
            )
        return checkpoint
    return None


def newest(run_dir: Path) -> Path | None:
    """The checkpoint with the highest step, unchecked, or None."""
    return next(iter(newest_first(run_dir)), None)


def step_of(checkpoint: Path) -> int:
    """The optimizer step in a checkpoint folder's name."""
    return int(checkpoint.name.removeprefix(PREFIX))


def newest_first(run_dir: Path) -> list[Path]:
    """The folders of all checkpoints, highest step first."""
    named = (path for path in run_dir.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal())
    return sorted(named, key=step_of, reverse=True)


def require_undamaged(folder: Path) -> None:
    """Check the files of a published folder against its manifest.

    Raises:
        ModelError: a file is missing or damaged.
    """
    try:
        _require_undamaged(folder, _read_manifest(folder))
    except _DamagedError as damage:
        raise ModelError(
            f"{folder}: {damage}; set train.checkpoint: final, or remove {folder.parent} and train again"
        ) from None


class _DamagedError(Exception):
    """What is wrong with a checkpoint."""


def _read_manifest(checkpoint: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text())
        _ = manifest["run_key"], manifest["files"].items()
    except FileNotFoundError:
        raise _DamagedError(f"it has no {MANIFEST}, so it was never finished") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _DamagedError(f"its {MANIFEST} cannot be read") from None
    return manifest


def _require_undamaged(checkpoint: Path, manifest: dict[str, Any]) -> None:
    for name, digest in manifest["files"].items():
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
