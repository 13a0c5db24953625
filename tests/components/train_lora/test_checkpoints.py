"""Checkpoints on disk: the manifest, the lock, which one is resumed from and which are kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from components.errors import BusyError, ModelError
from components.train_lora import checkpoints
from components.train_lora.checkpoints import (
    MANIFEST,
    STAGING,
    lock_run,
    newest,
    newest_first,
    newest_valid,
    publish,
    require_undamaged,
    run_key,
    step_of,
)

KEY = "0123456789abcdef"


def stage(run_dir: Path, name: str, **files: str) -> None:
    """Write files where a trainer does, before they are published."""
    folder = run_dir / STAGING / name
    folder.mkdir(parents=True)
    for file, text in (files or {"weights": name}).items():
        (folder / file).write_text(text)


def write(run_dir: Path, *steps: int, keep: int = 10, key: str = KEY) -> list[Path]:
    """Publish a checkpoint for each step."""
    for step in steps:
        stage(run_dir, f"checkpoint-{step}")
        publish(run_dir, f"checkpoint-{step}", key, keep)
    return [run_dir / f"checkpoint-{step}" for step in steps]


def test_a_run_key_depends_on_the_values_and_not_on_the_order_of_the_keys():
    key = run_key({"data": "a", "train": {"lora_rank": 4}})
    assert key == run_key({"train": {"lora_rank": 4}, "data": "a"})
    assert len(key) == 16
    assert int(key, 16) >= 0
    assert key != run_key({"data": "a", "train": {"lora_rank": 8}})


def test_the_manifest_has_the_run_and_the_digest_of_every_file_below(tmp_path):
    stage(tmp_path, "checkpoint-1", weights="w", state="s")
    (tmp_path / STAGING / "checkpoint-1" / "deeper").mkdir()
    (tmp_path / STAGING / "checkpoint-1" / "deeper" / "rng").write_text("r")
    publish(tmp_path, "checkpoint-1", KEY, keep=1)
    manifest = json.loads((tmp_path / "checkpoint-1" / MANIFEST).read_text())
    assert manifest["run_key"] == KEY
    assert sorted(manifest["files"]) == ["deeper/rng", "state", "weights"]
    assert all(len(digest) == 64 for digest in manifest["files"].values())
    assert not (tmp_path / STAGING).exists()


def test_publishing_a_step_again_replaces_it(tmp_path):
    (checkpoint,) = write(tmp_path, 3)
    (checkpoint / "weights").write_text("damaged")
    write(tmp_path, 3)
    assert (checkpoint / "weights").read_text() == "checkpoint-3"
    assert newest_valid(tmp_path, KEY) == checkpoint


def test_the_newest_are_kept_by_step_and_not_by_name(tmp_path):
    write(tmp_path, 8, 9, 10, 100, keep=2)
    assert [path.name for path in newest_first(tmp_path)] == ["checkpoint-100", "checkpoint-10"]
    assert newest(tmp_path) == tmp_path / "checkpoint-100"
    assert step_of(tmp_path / "checkpoint-100") == 100


def test_best_weights_do_not_count_among_the_checkpoints(tmp_path):
    write(tmp_path, 1, 2, keep=2)
    stage(tmp_path, "best-1")
    publish(tmp_path, "best-1", KEY, keep=1)
    assert [path.name for path in newest_first(tmp_path)] == ["checkpoint-2", "checkpoint-1"]
    require_undamaged(tmp_path / "best-1")


def test_folders_that_are_no_checkpoints_are_ignored(tmp_path):
    for name in ("checkpoint-", "checkpoint-x", "checkpoint-1.5", "other"):
        (tmp_path / name).mkdir()
    assert newest_first(tmp_path) == []
    assert newest(tmp_path) is None
    assert newest_valid(tmp_path, KEY) is None


def test_a_damaged_checkpoint_with_the_highest_step_does_not_cost_the_one_written_after_it(tmp_path):
    """One is kept: the good one, not the one with the highest number."""
    write(tmp_path, 90)
    (tmp_path / "checkpoint-90" / "weights").unlink()
    write(tmp_path, 2, keep=1)
    assert newest_valid(tmp_path, KEY) == tmp_path / "checkpoint-2"


def test_a_step_before_damaged_ones_is_kept_and_the_damaged_ones_ahead_are_removed(tmp_path):
    """As a run that resumed from step 2 because 4 and 6 were damaged, and is at step 3 now."""
    _, *damaged = write(tmp_path, 2, 4, 6)
    for checkpoint in damaged:
        (checkpoint / "weights").unlink()
    write(tmp_path, 3, keep=2)
    assert [path.name for path in newest_first(tmp_path)] == ["checkpoint-3", "checkpoint-2"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("weights", "other", "weights has changed since it was written"),
        ("weights", None, "weights is missing"),
        (MANIFEST, None, f"it has no {MANIFEST}, so it was never finished"),
        (MANIFEST, "{", f"its {MANIFEST} cannot be read"),
        (MANIFEST, "[]", f"its {MANIFEST} cannot be read"),
        (MANIFEST, '{"files": {}}', f"its {MANIFEST} cannot be read"),
        (MANIFEST, '{"run_key": "a", "files": ["weights"]}', f"its {MANIFEST} cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_with_the_reason(tmp_path, caplog, name, text, reason):
    older, damaged = write(tmp_path, 1, 2)
    if text is None:
        (damaged / name).unlink()
    else:
        (damaged / name).write_text(text)
    assert newest_valid(tmp_path, KEY) == older
    assert caplog.messages == [f"{damaged} is skipped: {reason}"]
    with pytest.raises(ModelError, match=rf"checkpoint-2: {reason}; set train.checkpoint: final, or remove {tmp_path}"):
        require_undamaged(damaged)


def test_a_checkpoint_of_another_run_is_an_error_that_names_both_runs(tmp_path):
    (copied,) = write(tmp_path, 1, key="f" * 16)
    with pytest.raises(ModelError, match=f"{copied}: is a checkpoint of run {'f' * 16}, not of {KEY}"):
        newest_valid(tmp_path, KEY)


def test_the_lock_is_exclusive_names_its_holder_and_is_released(tmp_path):
    run_dir = tmp_path / "root" / KEY
    message = rf"another run \(process {os.getpid()}\) is training this very recipe; wait until it ends, or stop it"
    with lock_run(run_dir):
        assert json.loads((run_dir / "writer.json").read_text()) == {"pid": os.getpid()}
        with pytest.raises(BusyError, match=message), lock_run(run_dir):
            pass
        assert (run_dir / "writer.json").is_file(), "who did not get the lock removes nothing"
    assert not (run_dir / "writer.json").exists()
    with lock_run(run_dir):
        pass


def test_the_lock_is_released_by_an_error_and_its_holder_may_be_unknown(tmp_path):
    with pytest.raises(ZeroDivisionError), lock_run(tmp_path):
        raise ZeroDivisionError
    with lock_run(tmp_path):
        (tmp_path / "writer.json").write_text("")  # as between the lock and the file
        with pytest.raises(BusyError, match=r"process unknown"), lock_run(tmp_path):
            pass


def test_the_lock_removes_what_a_killed_run_left_half_written(tmp_path):
    stage(tmp_path, "checkpoint-5")
    with lock_run(tmp_path):
        assert not (tmp_path / STAGING).exists()


def test_files_are_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    """A power cut must not leave a name without content: every file and the folder are synced first."""
    events: list[str] = []
    monkeypatch.setattr(checkpoints.os, "fsync", lambda _: events.append("sync"))
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, target: events.append("rename") or rename(self, target))
    stage(tmp_path, "checkpoint-1", weights="w", state="s")
    publish(tmp_path, "checkpoint-1", KEY, keep=1)
    # Two files, the manifest, their folder; then the run's folder, which has the new name.
    assert events == ["sync", "sync", "sync", "sync", "rename", "sync"]
