"""Volumes that can be written pass, and others are an error with the command for an administrator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.errors import ClusterError
from components.prepare_volumes.prepare import prepare
from tests.conftest import ROOT


def test_a_volume_that_can_be_written_is_left_as_it_was(tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "kept.txt").write_text("kept")
    prepare([tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    assert f"{tmp_path}: user {os.getuid()} can write" in caplog.text


def test_a_volume_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(ClusterError, match=r"missing: user .* cannot write to this volume \(No such file"):
        prepare([tmp_path / "missing"])


def test_a_volume_of_another_group_says_what_an_administrator_runs(tmp_path, monkeypatch):
    """Root writes everywhere, so the refusal is made here."""

    def refuse(self: Path, *_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(ClusterError) as caught:
        prepare([tmp_path])
    for fact in (str(tmp_path), "(Permission denied)", "fsGroup", f"chgrp {os.getgid()} . && chmod 2775 ."):
        assert fact in str(caught.value)


def test_the_first_volume_that_cannot_be_written_ends_the_check(tmp_path, caplog):
    caplog.set_level("INFO")
    with pytest.raises(ClusterError, match="missing"):
        prepare([tmp_path, tmp_path / "missing", tmp_path / "not reached"])
    assert len(caplog.records) == 1


def test_the_jobs_command_takes_the_mount_paths(tmp_path):
    command = [sys.executable, "-m", "components.prepare_volumes", str(tmp_path), str(tmp_path / "missing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert f"{tmp_path}: user {os.getuid()} can write" in done.stderr
    assert f"error: {tmp_path / 'missing'}: " in done.stderr
