"""The layers that pyproject.toml declares for import-linter hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_imports_only_run_downwards():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", ROOT / "pyproject.toml"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_few_modules_lie_loose():
    for folder, modules in (("components", {"__init__.py", "errors.py"}), ("pipelines", {"__init__.py", "cli.py"})):
        assert {path.name for path in (ROOT / folder).glob("*.py")} == modules
