"""A gc that keeps nothing, again and again while a real run trains: the run loses nothing."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

from components.collect_garbage.checkpoint_items import delete_checkpoints, list_checkpoints
from components.collect_garbage.plan import Rules, decide
from components.train_lora.checkpoints import newest_valid
from tests.components.collect_garbage.test_checkpoint_items import KEYS, make
from tests.components.train_lora.training import losses, start_training, wait_for, weights


def test_a_run_whose_checkpoints_are_written_meanwhile_ends_with_the_bytes_of_an_undisturbed_one(
    base, rows, tmp_path, undisturbed
):
    root = tmp_path / "checkpoints"
    make(root, KEYS[0])
    child = start_training(base, rows, tmp_path)
    wait_for(tmp_path, "checkpoints/*/writer.json", child)
    n_held = 0
    while child.poll() is None:
        listing = list_checkpoints(root)
        plan = decide({"": listing.items}, Rules(0, timedelta(0), datetime.now(UTC)))
        n_held += sum("a run is training into it now" in one.reason for one in plan)
        for item in (one.item for one in plan if one.goes):
            if item.name == KEYS[0]:
                assert delete_checkpoints(root, item) is None
            else:
                # Unlocked again: everything that it was locked for is written.
                assert (tmp_path / "adapter" / "run.json").is_file()
        try:
            child.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
    _, stderr = child.communicate()
    assert child.returncode == 0, stderr
    assert n_held > 0
    (folder,) = root.iterdir()
    assert newest_valid(folder, folder.name) is not None
    assert weights(tmp_path) == weights(undisturbed)
    assert losses(tmp_path) == losses(undisturbed)
