"""List or delete on a volume: ``python -m components.collect_garbage``, the Job of ``lorry gc pvc://claim``."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from components.collect_garbage.items import Item
from components.collect_garbage.places import delete_items, list_place

log = logging.getLogger(__name__)

# Begins the one line of a pod's log that is for the program and not for a person.
RESULT = "lorry-gc: "


def collect_garbage(
    folder: Annotated[Path, typer.Argument(help="the mount path of the volume, or a folder on it")],
    delete: Annotated[
        str | None, typer.Option(help="the items to delete, as the listing gave them (JSON); without it: list")
    ] = None,
) -> None:
    """List what a volume holds of Lorry's, or delete the items that are given, each as it was listed."""
    if delete is None:
        print(f"{RESULT}{list_place(str(folder)).model_dump_json()}")
        return
    items = [Item.model_validate(one) for one in json.loads(delete)]
    # A line each, at once: what a pod that is killed has done stays known.
    for outcome in delete_items(str(folder), items, log.info):
        print(f"{RESULT}{outcome.model_dump_json()}")
        sys.stdout.flush()
