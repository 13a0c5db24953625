"""Which model `lorry serve` serves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.errors import ModelError
from components.model_server.options import ServeOptions
from pipelines.cli import app
from pipelines.commands import serve as serve_module
from pipelines.commands.serve import last_model
from pipelines.local.workdir import OUTPUTS, SUCCEEDED


def finished_run(workdir: Path, name: str, *, at: int, state: str = SUCCEEDED) -> Path:
    """The model file of a run that ended ``at`` so many seconds."""
    model = workdir / "steps" / name
    model.mkdir(parents=True)
    (model / f"{name}.gguf").touch()
    folder = workdir / "runs" / name
    folder.mkdir(parents=True)
    exported = {"step": "export_gguf", "outputs": {"model": {"path": str(model), "metadata": {}}}}
    (folder / OUTPUTS).write_text(f"{json.dumps(exported)}\n{json.dumps({'state': state})}\n")
    os.utime(folder / OUTPUTS, (at, at))
    return model / f"{name}.gguf"


def test_the_model_is_that_of_the_run_that_finished_last(tmp_path):
    finished_run(tmp_path, "first", at=1)
    last = finished_run(tmp_path, "last", at=3)
    finished_run(tmp_path, "middle", at=2)
    finished_run(tmp_path, "failed", at=4, state="FAILED")
    assert last_model(tmp_path) == last


def test_without_a_finished_run_the_error_says_what_to_do(tmp_path):
    with pytest.raises(ModelError) as refused:
        last_model(tmp_path)
    for fact in (str(tmp_path), "no run has made a model", "GGUF file", "lorry demo"):
        assert fact in str(refused.value)


def test_a_model_that_was_deleted_is_an_error_with_its_folder(tmp_path):
    model = finished_run(tmp_path, "first", at=1)
    model.unlink()
    with pytest.raises(ModelError, match=f"{model.parent}.* is gone"):
        last_model(tmp_path)


@pytest.fixture
def served(monkeypatch) -> list[tuple[Path, ServeOptions]]:
    """What the server is started with."""
    calls: list[tuple[Path, ServeOptions]] = []
    monkeypatch.setattr(serve_module, "run_server", lambda model, options: calls.append((model, options)))
    return calls


def test_a_named_model_is_served_and_no_run_is_looked_for(served, tmp_path):
    flags = ["--workdir", str(tmp_path), "--port", "81", "--parallel", "3"]
    done = CliRunner().invoke(app, ["serve", "model.gguf", *flags])
    assert done.exit_code == 0, done.output
    assert served == [(Path("model.gguf"), ServeOptions(port=81, n_parallel=3))]


def test_the_model_may_be_named_by_its_variable(served):
    CliRunner().invoke(app, ["serve"], env={"LORRY_MODEL": "/models"})
    assert served == [(Path("/models"), ServeOptions())]


def test_without_a_name_the_last_runs_model_is_served(served, tmp_path):
    model = finished_run(tmp_path, "first", at=1)
    done = CliRunner().invoke(app, ["serve"], env={"LORRY_WORKDIR": str(tmp_path)})
    assert done.exit_code == 0, done.output
    assert served == [(model, ServeOptions())]
