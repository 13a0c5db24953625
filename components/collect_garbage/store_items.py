"""A store's models, inputs, base models and facts of runs: listed, and deleted so that no half model is offered."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from datetime import datetime

from components.artifacts.contracts import MANIFEST_NAME, ModelManifest
from components.collect_garbage.items import GONE, Item, Kind, Listing, reference
from components.collect_garbage.run_items import needs_of_run, run_of
from components.errors import ModelError, StoreError
from components.storage.published_models import CURRENT_KEY, current, has_current, key_of, published_manifest
from components.storage.store import Store, StoredFile

log = logging.getLogger(__name__)

FOLDERS: dict[str, Kind] = {"models": "model", "inputs": "input", "base-models": "base model", "runs": "run"}
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
# A digest of files, or a commit of the hub.
_REVISION = re.compile(r"^([0-9a-f]{64}|[0-9a-f]{40})$")
_FOLDER_OF: dict[Kind, str] = {kind: folder for folder, kind in FOLDERS.items()}
_NAMES: dict[Kind, re.Pattern[str]] = {"model": _SHA256, "input": _REVISION, "base model": _REVISION}
PUBLISHED_AGAIN = "it was published again meanwhile"
NEVER_FINISHED = f"an upload without {MANIFEST_NAME}"


def is_store(names: Sequence[str]) -> bool:
    """Whether the names at the top of a place are those of a store."""
    return any(f"{folder}/" in names for folder in FOLDERS)


def list_store(store: Store, *, report: Callable[[str], None] = log.info) -> Listing:
    """Everything in a store that Lorry has put there; ``report`` gets a line where reading it takes time.

    Raises:
        StoreError: the store refuses or does not answer, or it holds nothing of Lorry's.
        ModelError: its ``current.json`` cannot be read.
    """
    names = store.names()
    groups: dict[tuple[Kind, str], list[StoredFile]] = {}
    foreign = [name for name in names if name.rstrip("/") not in FOLDERS]
    for folder, kind in FOLDERS.items():
        for file in store.files(folder) if f"{folder}/" in names else ():
            name = _item_name(file.key, kind)
            if name is not None:
                groups.setdefault((kind, name), []).append(file)
            elif file.key != CURRENT_KEY:
                foreign.append(file.key)
    items = []
    for (kind, name), files in groups.items():
        if (item := _item(store, kind, name, files)) is not None:
            items.append(item)
        else:
            foreign += [file.key for file in files]
    if not items:
        raise StoreError(foreign_place(store.address, names, "store"))
    newest = current(store).sha256 if has_current(store) else None
    n_models = sum(item.kind == "model" for item in items)
    report(f"{store.address}: {len(items)} parts, {n_models} of them models")
    warnings = []
    if newest is not None and ("model", newest) not in groups:
        warnings.append(f"{store.address_of(CURRENT_KEY)}: names model {newest}, which is not there; publish it again")
    return Listing(kind="store", items=items, foreign=sorted(foreign), current=newest, warnings=warnings)


def foreign_place(address: str, names: Sequence[str], kind: str) -> str:
    """The message about a place that is not Lorry's."""
    if not names:
        return f"{address}: holds nothing; correct the address"
    shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    return (
        f"{address}: is no {kind} of Lorry's (it holds {shown}); nothing there is touched; give the address that "
        "recipes publish to, a checkpoint root or a work folder"
    )


def _item_name(key: str, kind: Kind) -> str | None:
    """The name of the item that a file belongs to; None for a file that is not Lorry's."""
    if kind == "run":
        return run_of(key)
    parts = key.split("/")
    return None if len(parts) == 2 or not _NAMES[kind].match(parts[1]) else parts[1]


def _item(store: Store, kind: Kind, name: str, files: Sequence[StoredFile]) -> Item | None:
    """An item with what it needs; None where its files are another program's."""
    needs: list[str] = []
    held = unfinished = None
    if kind == "model":
        try:
            manifest = published_manifest(store, name)
        except ModelError as error:
            # Perhaps of a later version of Lorry: what cannot be read is not judged.
            held, manifest = f"its {MANIFEST_NAME} cannot be used: {error}", None
        if manifest is not None:
            needs = _needs_of_model(manifest)
        elif held is None:
            unfinished = NEVER_FINISHED
    elif kind == "run":
        found = needs_of_run(store, files)
        if found is None:
            return None
        needs = found
    return Item(
        kind=kind, name=name, size_bytes=sum(file.size_bytes for file in files), modified=newest_of(files),
        needs=needs, held=held, unfinished=unfinished,
    )  # fmt: skip


def newest_of(files: Sequence[StoredFile]) -> datetime:
    """When the newest of several files was written."""
    return max(file.modified for file in files)


def _needs_of_model(manifest: ModelManifest) -> list[str]:
    """A model's base, where it lies in the store, and the checkpoints of its training."""
    bases = [manifest.base_model, manifest.base_model.to_merge_into]
    revisions = dict.fromkeys(base.revision for base in bases)
    return [*(reference("base model", one) for one in revisions), reference("checkpoints", manifest.run_key)]


def delete_from_store(store: Store, item: Item) -> str | None:
    """Delete an item as it was listed; give the reason where it stays.

    Raises:
        StoreError: the store refuses or does not answer; what is left of the item is listed again by the next gc.
    """
    files = _files_of(store, item)
    if not files:
        return GONE
    if _time_of(item.kind, newest_of(files)) != _time_of(item.kind, item.modified):
        return "it was written to since it was listed"
    if item.kind == "model":
        return _withdraw(store, item.name) or _delete_files_of_model(store, item.name, files)
    for file in files:
        store.delete(file.key)
    return None


def _files_of(store: Store, item: Item) -> list[StoredFile]:
    """The files of an item as they are now; the figures of a run lie beside its folder."""
    folder = f"{_FOLDER_OF[item.kind]}/{item.name}"
    files = store.files(folder)
    if item.kind != "run":
        return files
    figures = store.file(f"{folder}.json")
    own = [*(file for file in files if run_of(file.key)), *([figures] if figures else [])]
    # Reports first, notes and figures last: what a deletion that breaks off leaves is a run in the next listing.
    return sorted(own, key=lambda file: file.key, reverse=True)


def _time_of(kind: Kind, modified: datetime) -> datetime:
    """A time as both a listing and a request for one file, by which a run's figures are looked at, give it."""
    return modified.replace(microsecond=0) if kind == "run" else modified


def _withdraw(store: Store, sha256: str) -> str | None:
    """Delete a model's manifest, after which it is no model of the store; give the reason where it stays.

    A run that publishes the model at this moment moves ``current`` to it and then looks for the manifest: so either
    it finds that the manifest is gone and sends the model again, or it is found here and the manifest put back.
    """
    became_current = "it has become the current model"
    if _is_current(store, sha256):
        return became_current
    key = key_of(sha256, MANIFEST_NAME)
    try:
        manifest = store.read(key)
    except FileNotFoundError:
        return None
    store.delete(key)
    if _is_current(store, sha256):
        store.put_bytes(key, manifest)
        return became_current
    return PUBLISHED_AGAIN if store.size_of(key) is not None else None


def _delete_files_of_model(store: Store, sha256: str, files: Sequence[StoredFile]) -> str | None:
    """Delete the files of a model that has no manifest, until a run publishes it; give the reason where it stays.

    A manifest that is there again is a run's, which moves ``current`` and then looks whether the model is complete.
    """
    manifest = key_of(sha256, MANIFEST_NAME)
    for key in (file.key for file in files if file.key != manifest):
        if reason := _why_published_again(store, sha256):
            return reason
        store.delete(key)
    return _why_published_again(store, sha256)


def _why_published_again(store: Store, sha256: str) -> str | None:
    """What to say of a model that a run has published since its manifest was deleted; None where none has."""
    found = published_manifest(store, sha256)
    if found is None and not _is_current(store, sha256):
        return None
    if found and store.size_of(key_of(sha256, found.file)) == found.size_bytes:
        return PUBLISHED_AGAIN
    return "it was published again while its files were deleted; unless a run is sending it now, publish it once more"


def _is_current(store: Store, sha256: str) -> bool:
    return has_current(store) and current(store).sha256 == sha256
