"""What a work folder holds beside its store and its checkpoints: listed with what needs what, and deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from components.artifacts.contracts import RUN_RECORD_NAME
from components.collect_garbage.checkpoint_items import measured, readable, remove_folder
from components.collect_garbage.items import GONE, REMOVED, Item, Kind, Listing, reference
from components.collect_garbage.store_items import foreign_place
from components.errors import StoreError
from pipelines.estimate.submitted import FOLDER as SUBMITTED
from pipelines.local.sweep import TRIALS
from pipelines.local.workdir import LOCK, OUTPUTS, Workdir, outputs_in

BASES = "base-models"
LEFT = "left by a gc that was interrupted"
# What kfp.local names its folders and its cache's files.
_STEPS = re.compile(r"^(finetune|sweep)-\d{4}(-\d{2}){5}-\d+$")
_CACHED = re.compile(r"^[0-9a-f]{64}\.json$")
_BASE = re.compile(r"^[\w.-]+-[0-9a-f]{12}$")
_BASE_BEING_MADE = re.compile(r"^\..*\.partial$")
# Of these only the parts that a run or a gc made are listed; the store and the checkpoints are places of their own.
_OWN = ("runs", "sweeps", "steps", "cache", BASES, "checkpoints", "store", "chat", SUBMITTED, LOCK)


def is_work_folder(folder: Path) -> bool:
    """Whether runs on this machine, or submissions from it, have filled a folder."""
    if any((folder / name).is_dir() for name in ("steps", "cache", "sweeps", "checkpoints")):
        return True
    if any((base / "config.json").is_file() for base in _children(folder / BASES)):
        return True
    return any(_submitted_in(folder))


def list_work_folder(workdir: Workdir) -> Listing:
    """The parts of a work folder beside its store and its checkpoints.

    Raises:
        StoreError: it cannot be read, or holds nothing of Lorry's.
    """
    with readable(workdir.root):
        items = [*_runs(workdir), *_step_outputs(workdir), *_bases(workdir)]
        items += [_item(workdir, "submitted run", path) for path in _submitted_in(workdir.root)]
        names = sorted(path.name for path in workdir.root.iterdir())
        foreign = [name for name in names if name not in _OWN]
        if not items and not any((workdir.root / name).is_dir() for name in ("store", "checkpoints")):
            raise StoreError(foreign_place(str(workdir.root), foreign or names, "work folder"))
    return Listing(kind="work folder", items=items, foreign=foreign)


def _runs(workdir: Workdir) -> Iterator[Item]:
    parents: tuple[tuple[Kind, Path], ...] = (("run", workdir.runs), ("sweep", workdir.sweeps))
    for kind, parent in parents:
        for folder in _children(parent):
            removed = folder.name.startswith(REMOVED)
            # A sweep of a cluster has its reports only.
            if removed or (folder / "job.json").is_file() or (folder / OUTPUTS).is_file() or kind == "sweep":
                yield _item(workdir, kind, folder, () if removed else _needs(workdir, folder))


def _needs(workdir: Workdir, folder: Path) -> Iterator[str]:
    """What the run or sweep in a folder was made from, and what it made."""
    for output in outputs_in(folder):
        if unit := _unit_of(workdir, output.path):
            yield reference("step output", unit)
        if sha256 := output.metadata.get("sha256"):
            yield reference("model", str(sha256))
    for record in (folder / RUN_RECORD_NAME, *folder.glob(f"{TRIALS}/*/{RUN_RECORD_NAME}")):
        if key := _read(record).get("run_key"):
            yield reference("checkpoints", str(key))
    for base in _bases_in(_read(folder / "job.json"), workdir):
        yield reference("base model", base)


def _unit_of(workdir: Workdir, path: Path) -> str | None:
    """The step output that a path lies in: of a pipeline's folder the one below it."""
    if not path.is_relative_to(workdir.steps):
        return None
    parts = path.relative_to(workdir.steps).parts[:2]
    return "/".join((workdir.steps.name, *parts)) if len(parts) == 2 else None


def _bases_in(value: Any, workdir: Workdir) -> Iterator[str]:
    """The made base models that the parameters of a run name, at any depth."""
    if isinstance(value, str):
        path = Path(value)
        if path.parent == workdir.root / BASES:
            yield f"{BASES}/{path.name}"
    elif isinstance(value, dict):
        for one in value.values():
            yield from _bases_in(one, workdir)
    elif isinstance(value, list):
        for one in value:
            yield from _bases_in(one, workdir)


def _step_outputs(workdir: Workdir) -> Iterator[Item]:
    for pipeline in _children(workdir.steps):
        if _STEPS.match(pipeline.name):
            for folder in _children(pipeline):
                yield _item(workdir, "step output", folder)


def _bases(workdir: Workdir) -> Iterator[Item]:
    for folder in _children(workdir.root / BASES):
        if _BASE_BEING_MADE.match(folder.name):
            item = _item(workdir, "base model", folder)
            yield item.model_copy(update={"unfinished": "a base model that was not made to its end"})
        elif _BASE.match(folder.name.removeprefix(REMOVED)):
            yield _item(workdir, "base model", folder)


def _submitted_in(root: Path) -> Iterator[Path]:
    """The files of runs that were sent from here, which correct estimates."""
    for path in sorted((root / SUBMITTED).glob("*.json")):
        if {"schema_version", "recipe", "placement", "store"} <= _read(path).keys():
            yield path


def _item(workdir: Workdir, kind: Kind, path: Path, needs: Iterable[str] = ()) -> Item:
    size, modified = measured(path)
    return Item(
        kind=kind, name=path.relative_to(workdir.root).as_posix(),
        size_bytes=path.stat().st_size if path.is_file() else size, modified=modified,
        needs=list(dict.fromkeys(needs)), unfinished=LEFT if path.name.startswith(REMOVED) else None,
    )  # fmt: skip


def delete_from_work_folder(workdir: Workdir, item: Item) -> str | None:
    """Delete a part of a work folder as it was listed; give the reason where it stays. The caller holds the folder.

    Of a step's outputs the cache entries go first, so that no run takes them for outputs that are there.

    Raises:
        StoreError: it cannot be deleted.
    """
    folder = workdir.root / item.name
    with readable(folder):
        if not folder.exists():
            return GONE
        if measured(folder)[1] != item.modified:
            return "it was written to since it was listed"
        if item.kind == "submitted run":
            folder.unlink(missing_ok=True)
            return None
        if item.kind == "step output":
            for entry in _cache_entries(workdir, folder):
                entry.unlink(missing_ok=True)
        remove_folder(folder)
        if item.kind == "step output" and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
    return None


def _cache_entries(workdir: Workdir, folder: Path) -> list[Path]:
    """The entries of kfp.local's cache that name an output in a folder."""
    inside = f'"{folder}/'
    return [
        path
        for path in (workdir.cache.iterdir() if workdir.cache.is_dir() else ())
        if _CACHED.match(path.name) and inside in path.read_text(encoding="utf-8", errors="replace")
    ]


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
