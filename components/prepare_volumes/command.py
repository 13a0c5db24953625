"""Check volumes: ``python -m components.prepare_volumes``, the one-shot Job of manifests/base/pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.prepare_volumes.prepare import prepare


def prepare_volumes(folders: Annotated[list[Path], typer.Argument(help="the mount paths of the volumes")]) -> None:
    """Check that this user can write to each volume."""
    prepare(folders)
