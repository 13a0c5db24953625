"""Is there room on the disk for what is about to be written? Asked before the work starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from components.errors import DiskSpaceError

# Merged copy, f16 file and quantized file, none larger than the base's own weights; and a little for the rest.
COPIES = 3
SLACK_BYTES = 64 * 2**20


def required_bytes(weight_bytes: int) -> int:
    """Bytes that an export of a base with ``weight_bytes`` of weights needs at its peak."""
    return COPIES * weight_bytes + SLACK_BYTES


def require_export_space(folder: Path, weight_bytes: int) -> None:
    """Check the disk that holds ``folder`` (or will hold it) for an export.

    Raises:
        DiskSpaceError: it has less than ``required_bytes`` free.
    """
    require_free_space(folder, required_bytes(weight_bytes), "the export")


def require_free_space(folder: Path, n_bytes: int, what: str) -> None:
    """Check the disk that holds ``folder`` (or will hold it) for ``n_bytes``, which ``what`` needs.

    Raises:
        DiskSpaceError: it has less free.
    """
    present = folder.absolute()
    while not present.exists():
        present = present.parent
    free = shutil.disk_usage(present).free
    if free < n_bytes:
        raise DiskSpaceError(
            f"{present}: {what} needs {_size(n_bytes)} and the disk has {_size(free)} free; "
            "free some room, or choose another disk with --workdir"
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"
