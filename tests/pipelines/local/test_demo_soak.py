"""The demo at its full size, killed in the middle of training. Minutes; run by ``make soak``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_lorry

pytestmark = pytest.mark.slow


def adapter_bytes(workdir: Path) -> bytes:
    return next(workdir.glob("steps/*/train-lora/adapter/adapter_model.safetensors")).read_bytes()


def test_the_demo_killed_in_the_middle_of_training_ends_with_the_bytes_of_an_undisturbed_one(tmp_path):
    quiet, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert run_lorry("demo", "--no-serve", "--workdir", quiet, timeout=1800).returncode == 0
    command = [sys.executable, "-m", "pipelines.cli", "demo", "--no-serve", "--workdir", str(killed)]
    with (tmp_path / "first.log").open("w") as log:
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 1200
        while not list(killed.glob("checkpoints/*/checkpoint-120")):
            assert child.poll() is None, (tmp_path / "first.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(5)  # well past the checkpoint
        os.kill(json.loads(next(killed.glob("checkpoints/*/writer.json")).read_text())["pid"], signal.SIGKILL)
        assert child.wait(timeout=60) == 1
    assert not list(killed.glob("steps/*/train-lora/adapter/run.json"))
    again = run_lorry("demo", "--no-serve", "--workdir", killed, timeout=1800)
    assert again.returncode == 0, again.stderr
    assert "resuming from" in again.stdout
    assert adapter_bytes(killed) == adapter_bytes(quiet)
