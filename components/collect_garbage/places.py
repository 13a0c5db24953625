"""A place by its address: a bucket, or a folder that is a store or a checkpoint root."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from components.collect_garbage.checkpoint_items import (
    delete_checkpoints,
    is_checkpoint_root,
    list_checkpoints,
    readable,
)
from components.collect_garbage.items import Item, Listing, Outcome
from components.collect_garbage.store_items import delete_from_store, is_store, list_store
from components.storage.store import Store, in_bucket


def list_place(address: str) -> Listing:
    """Everything of Lorry's at an address.

    Raises:
        StoreError: it does not exist, refuses, or is not Lorry's.
        ModelError: its ``current.json`` cannot be read.
    """
    if in_bucket(address):
        return list_store(Store(address))
    folder = Path(address)
    with readable(folder):
        names = [f"{path.name}/" for path in folder.iterdir() if path.is_dir()]
        if is_store(names) and not is_checkpoint_root(folder):
            return list_store(Store(address))
    return list_checkpoints(folder)


def delete_items(address: str, items: Sequence[Item], report: Callable[[str], None]) -> Iterator[Outcome]:
    """Delete items as they were listed, and say what became of each; ``report`` gets a line where one is not.

    Raises:
        StoreError: the place refuses; what is left is listed again by the next gc.
    """
    store = Store(address)
    for item in items:
        kept = delete_checkpoints(Path(address), item) if item.kind == "checkpoints" else delete_from_store(store, item)
        if kept:
            report(f"{item.kind} {item.name}: not deleted: {kept}")
        yield Outcome(kind=item.kind, name=item.name, size_bytes=0 if kept else item.size_bytes, kept_because=kept)
