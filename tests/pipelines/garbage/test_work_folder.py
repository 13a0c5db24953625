"""A work folder: which parts it has, what needs what, and deletions that leave no reference to what is gone."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.collect_garbage.items import GONE, Item
from components.collect_garbage.plan import Rules, decide
from components.errors import StoreError
from pipelines.garbage import places
from pipelines.garbage.places import IN_USE, WorkFolderPlace, places_at
from pipelines.garbage.work_folder import delete_from_work_folder, is_work_folder, list_work_folder
from pipelines.local.workdir import LOCK, Workdir

FIRST, SECOND = "finetune-2026-11-01-10-00-00-000001", "finetune-2026-11-02-10-00-00-000002"
SHA, BASE = "a" * 64, "tiny-base-0123456789ab"
KEY, TRIAL_KEY = "0123456789abcdef", "fedcba9876543210"


def output(work: Workdir, pipeline: str, task: str, **metadata: Any) -> dict[str, Any]:
    """A step's output on disk, with its entry in kfp.local's cache; as the engine writes it into outputs.jsonl."""
    path = work.steps / pipeline / task / "out"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 10)
    work.cache.mkdir(exist_ok=True)
    entry = {"out": {"__kfp_artifact__": True, "uri": str(path)}}
    name = f"{len(list(work.cache.iterdir())):064x}.json"
    (work.cache / name).write_text(json.dumps(entry))
    return {"step": task.replace("-", "_"), "outputs": {"out": {"path": str(path), "metadata": metadata}}}


def write_run(work: Workdir, name: str, *outputs: dict[str, Any], **files: Any) -> Path:
    folder = work.root / name
    folder.mkdir(parents=True)
    (folder / "outputs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in outputs))
    for file, document in files.items():
        (folder / f"{file}.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Workdir:
    """Two runs, the second of which reuses the first one's split, and a sweep."""
    work = Workdir(tmp_path / "work")
    base = work.root / "base-models" / BASE
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    split, first = output(work, FIRST, "split-data"), output(work, FIRST, "export-gguf", sha256=SHA)
    write_run(work, "runs/first", split, first, run={"run_key": KEY}, job={"arguments": {"base_model": {}}})
    second = output(work, SECOND, "train-lora")
    write_run(work, "runs/second", split, second, job={"arguments": {"base_model": {"address": str(base)}}})
    trial = write_run(work, "sweeps/grid/trials/a", run={"run_key": TRIAL_KEY})
    (trial.parents[1] / "outputs.jsonl").write_text('{"step": "cut off')
    return work


def items(work: Workdir) -> dict[str, Item]:
    return {item.name: item for item in list_work_folder(work).items}


def test_runs_and_sweeps_need_their_step_outputs_models_checkpoints_and_bases(work):
    found = items(work)
    assert found["runs/first"].needs == [
        f"step output:steps/{FIRST}/split-data", f"step output:steps/{FIRST}/export-gguf", f"model:{SHA}",
        f"checkpoints:{KEY}",
    ]  # fmt: skip
    assert found["runs/second"].needs == [
        f"step output:steps/{FIRST}/split-data", f"step output:steps/{SECOND}/train-lora",
        f"base model:base-models/{BASE}",
    ]  # fmt: skip
    assert found["sweeps/grid"].needs == [f"checkpoints:{TRIAL_KEY}"]
    assert {(item.kind, item.name) for item in found.values() if item.kind not in ("run", "sweep")} == {
        ("step output", f"steps/{FIRST}/split-data"), ("step output", f"steps/{FIRST}/export-gguf"),
        ("step output", f"steps/{SECOND}/train-lora"), ("base model", f"base-models/{BASE}"),
    }  # fmt: skip


def test_what_is_not_lorrys_is_named_or_not_listed(work):
    for name in ("notes", "chat", "runs/theirs", "steps/theirs/task", "base-models/theirs"):
        (work.root / name).mkdir(parents=True)
    listing = list_work_folder(work)
    assert listing.foreign == ["notes"]
    assert not [item for item in listing.items if "theirs" in item.name or "chat" in item.name]


def test_the_files_of_submitted_runs_are_lorrys_and_the_old_ones_go(tmp_path):
    work, now = Workdir(tmp_path / "submits"), datetime.now(UTC)
    folder = work.root / "submitted"
    folder.mkdir(parents=True)
    (folder / "theirs.json").write_text('{"form": 1}')
    assert not is_work_folder(work.root)
    for days in range(30, 37):
        path = folder / f"run-{days}.json"
        path.write_text(json.dumps({"schema_version": 1, "recipe": {}, "placement": {}, "store": "s3://b"}))
        os.utime(path, (now.timestamp() - days * 86400,) * 2)
    assert is_work_folder(work.root)
    listing = list_work_folder(work)
    assert (len(listing.items), listing.foreign, {item.size_bytes for item in listing.items}) == (7, [], {71})
    plan = decide({"work": listing.items}, Rules(keep=5, older_than=timedelta(days=30), now=now))
    going = [one.item for one in plan if one.goes]
    assert [item.name for item in going] == ["submitted/run-35.json", "submitted/run-36.json"]
    assert [delete_from_work_folder(work, item) for item in (*going, going[0])] == [None, None, GONE]
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"run-{days}.json" for days in range(30, 35)),
        "theirs.json",
    ]


def test_a_folder_is_a_work_folder_by_what_is_in_it(work, tmp_path, models):
    assert is_work_folder(work.root)
    assert not is_work_folder(tmp_path / "store")
    (tmp_path / "submits/base-models" / BASE).mkdir(parents=True)
    assert not is_work_folder(tmp_path / "submits")
    (tmp_path / "submits/base-models" / BASE / "config.json").touch()
    assert is_work_folder(tmp_path / "submits")


def test_a_folder_of_another_program_is_refused_in_one_line(tmp_path):
    (tmp_path / "theirs/cache/hub").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"theirs: is no work folder of Lorry's \(it holds cache\); nothing there"):
        list_work_folder(Workdir(tmp_path / "theirs"))


def test_the_outputs_of_a_step_go_with_the_cache_entries_that_name_them(work):
    item = items(work)[f"steps/{SECOND}/train-lora"]
    entries = set(work.cache.iterdir())
    assert delete_from_work_folder(work, item) is None
    assert not (work.steps / SECOND).exists()
    (gone,) = entries - set(work.cache.iterdir())
    assert gone.name == f"{2:064x}.json"
    assert delete_from_work_folder(work, item) == GONE
    assert (work.steps / FIRST / "split-data" / "out").is_file()


def test_a_part_that_was_written_to_since_it_was_listed_stays(work):
    item = items(work)["runs/second"]
    (work.root / "runs/second/log.txt").write_text("more")
    os.utime(work.root / "runs/second/log.txt", (1e9, 4e9))
    assert delete_from_work_folder(work, item) == "it was written to since it was listed"
    assert (work.root / "runs/second/outputs.jsonl").is_file()


def test_what_is_half_made_or_half_deleted_is_unfinished(work):
    for name in ("base-models/.x.123.partial", "runs/.gc-first", f"steps/{FIRST}/.gc-gate"):
        (work.root / name).mkdir(parents=True)
    found = items(work)
    assert found["base-models/.x.123.partial"].unfinished == "a base model that was not made to its end"
    assert found["runs/.gc-first"].unfinished == "left by a gc that was interrupted"
    left = found[f"steps/{FIRST}/.gc-gate"]
    assert left.unfinished == "left by a gc that was interrupted"
    assert delete_from_work_folder(work, left) is None
    assert not (work.root / left.name).exists()


def test_while_a_run_uses_the_work_folder_everything_in_it_stays(work):
    (place,) = places_at(str(work.root), lambda *_: pytest.fail("no volume"))
    listed = place.list(print).items
    assert {item.held for item in listed} == {None}
    with work.in_use():
        assert {item.held for item in place.list(print).items} == {IN_USE}
        outcomes = list(place.delete(listed, print))
        assert {outcome.kept_because for outcome in outcomes} == {IN_USE}
    assert len(items(work)) == len(listed)
    assert {outcome.kept_because for outcome in place.delete(listed, print)} == {None}
    assert items_left(work) == ["base-models", "cache", "runs", "steps", "sweeps"]


def items_left(work: Workdir) -> list[str]:
    return sorted(path.name for path in work.root.iterdir() if path.name != LOCK)


def test_a_second_gc_finds_the_work_folder_in_use(work):
    place = WorkFolderPlace(work)
    listed = place.list(print).items
    first = place.delete(listed, print)
    assert next(first).kept_because is None
    assert {outcome.kept_because for outcome in place.delete(listed, print)} == {IN_USE}
    assert {outcome.kept_because for outcome in first} == {None}


def test_store_and_checkpoints_of_a_work_folder_are_places_of_their_own(work, models, tmp_path):
    (tmp_path / "store").rename(work.store)
    work.checkpoints.mkdir()
    found = places_at(str(work.root), lambda *_: pytest.fail("no volume"))
    assert [(place.address, place.is_shared) for place in found] == [
        (str(work.root), False), (str(work.store), False),
    ]  # fmt: skip
    assert [item.name for item in found[1].list(print).items] == sorted(models)


def test_a_listing_writes_nothing_into_a_work_folder(work):
    before = sorted(work.root.rglob("*"))
    WorkFolderPlace(work).list(print)
    assert sorted(work.root.rglob("*")) == before


def test_a_work_folder_that_may_not_be_written_is_one_line(work, monkeypatch):
    listed = WorkFolderPlace(work).list(print).items

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(work.root / LOCK))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match=rf"{LOCK}: user \d+ has no right to it \(Permission denied\)"):
        list(WorkFolderPlace(work).delete(listed, print))


def test_an_address_of_another_form_is_refused():
    for address in ("ftp://host/folder", "pvc://"):
        with pytest.raises(StoreError, match=f"^{address}: give a folder, s3://bucket/folder"):
            places.places_at(address, lambda *_: pytest.fail("no volume"))
    with pytest.raises(StoreError, match="/nowhere: no such folder; correct the path, or give the address of a store"):
        places.places_at("/nowhere", lambda *_: pytest.fail("no volume"))


def test_the_parts_of_a_real_run_are_known_and_needed_by_it(tiny_run, tmp_path):
    """The names that the trainer, kfp.local and the engine give are those that are looked for."""
    listing = list_work_folder(Workdir(tiny_run.workdir))
    run = next(item for item in listing.items if item.kind == "run")
    needed = {name.partition(":")[2] for name in run.needs if name.startswith("step output:")}
    outputs = {item.name for item in listing.items if item.kind == "step output"}
    assert listing.foreign == []
    assert outputs == needed
    assert any(name.endswith("/train-lora") for name in outputs)
    (key,) = (name.partition(":")[2] for name in run.needs if name.startswith("checkpoints:"))
    # Tests of this process that train in the same folder have checkpoints of their own there.
    assert (tiny_run.workdir / "checkpoints" / key).is_dir()
    assert f"model:{tiny_run.result.output('publish_model', 'published').metadata['sha256']}" in run.needs
