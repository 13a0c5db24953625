"""Fetch a model: ``python -m components.fetch_model``, the init container of the model server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.fetch_model.fetch import fetch


def fetch_model(
    store: Annotated[
        str, typer.Option(envvar="LORRY_STORE", help="s3://bucket/folder, gs://bucket/folder, or a folder")
    ],
    sha256: Annotated[str, typer.Option(envvar="LORRY_MODEL_SHA256", help="the model's digest")],
    folder: Annotated[Path, typer.Option(envvar="LORRY_MODEL", help="the folder to download into")],
) -> None:
    """Download a model from the store into a folder, and check its digest; a broken download is resumed."""
    fetch(store, sha256, folder)
