"""The Job's program: a listing as one line, a deletion as a line for each item, an error as one line."""

from __future__ import annotations

import json
import subprocess
import sys

from components.collect_garbage.command import RESULT
from components.collect_garbage.items import Listing, Outcome
from tests.components.collect_garbage.test_checkpoint_items import KEYS, make
from tests.conftest import ROOT


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "components.collect_garbage", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_a_volume_is_listed_and_what_is_named_is_deleted(tmp_path):
    make(tmp_path)
    make(tmp_path, KEYS[1])
    (line,) = run(tmp_path).stdout.splitlines()
    listing = Listing.model_validate_json(line.removeprefix(RESULT))
    assert [item.name for item in listing.items] == list(KEYS)
    given = json.dumps([listing.items[0].model_dump(mode="json", exclude={"needs", "held"})])
    (line,) = run(tmp_path, "--delete", given).stdout.splitlines()
    assert Outcome.model_validate_json(line.removeprefix(RESULT)).kept_because is None
    assert [path.name for path in tmp_path.iterdir()] == [KEYS[1]]


def test_a_foreign_volume_is_one_line(tmp_path):
    (tmp_path / "theirs").mkdir()
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}: is no checkpoint root of Lorry's (it holds theirs)")
    assert len(done.stderr.splitlines()) == 1
