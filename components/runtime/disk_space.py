"""Checks, before the work starts, that the disk has enough free space for its output."""

from __future__ import annotations

import shutil
from pathlib import Path

from components.errors import DiskSpaceError

# The merged copy, the f16 file and the quantized file, each at most as large as the base's weights.
COPIES = 3
SLACK_BYTES = 64 * 2**20


def required_bytes(weight_bytes: int) -> int:
    """Peak bytes on disk of an export of a base model whose weights take ``weight_bytes``."""
    return COPIES * weight_bytes + SLACK_BYTES


def require_export_space(folder: Path, weight_bytes: int) -> None:
    """Check that the disk of ``folder``, which need not exist yet, has enough free space for an export.

    Raises:
        DiskSpaceError: fewer than ``required_bytes`` are free.
    """
    require_free_space(folder, required_bytes(weight_bytes), "the export")


def require_free_space(folder: Path, n_bytes: int, what: str) -> None:
    """Check that the disk of ``folder``, which need not exist yet, has ``n_bytes`` free for ``what``.

    Raises:
        DiskSpaceError: fewer are free.
    """
    present = folder.absolute()
    while not present.exists():
        present = present.parent
    free = shutil.disk_usage(present).free
    if free < n_bytes:
        raise DiskSpaceError(
            f"{present}: {what} needs {_size(n_bytes)} and the disk has {_size(free)} free; "
            "free some space, or choose another disk with --workdir"
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"
