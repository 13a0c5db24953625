"""What a run leaves in its folder, read back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipelines.config.steps import Step
from pipelines.local.workdir import (
    OUTPUTS,
    SUCCEEDED,
    Workdir,
    keep_outputs,
    new_folder,
    outputs_in,
    read_result,
    reports_in,
    write_figures,
)


def write_run(folder: Path, *steps: tuple[str, dict[str, tuple[Path, dict]]], state: str | None = SUCCEEDED) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict] = [
        {"step": step, "outputs": {name: {"path": str(path), "metadata": meta} for name, (path, meta) in made.items()}}
        for step, made in steps
    ]
    lines += [{"state": state}] if state else []
    (folder / OUTPUTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "made" / "file"
    path.parent.mkdir()
    path.write_text("content")
    return path


def test_a_run_that_has_not_finished_has_no_result_but_its_outputs(tmp_path, file):
    folder = write_run(tmp_path / "run", ("split_data", {"train": (file, {})}), state=None)
    assert read_result(folder) is None
    assert [(one.step, one.name, one.path) for one in outputs_in(folder)] == [("split_data", "train", file)]
    assert read_result(tmp_path / "nowhere") is None
    assert outputs_in(tmp_path / "nowhere") == []


def test_a_line_that_is_cut_off_is_not_read(tmp_path, file):
    folder = write_run(tmp_path / "runs" / "killed", ("split_data", {"train": (file, {})}), state=None)
    with (folder / OUTPUTS).open("a") as outputs:
        outputs.write('{"step": "train_lora", "outputs": {"adap')
    assert [output.step for output in outputs_in(folder)] == ["split_data"]
    assert Workdir(tmp_path).latest_result() is None


def test_the_latest_result_is_that_of_the_run_that_finished_last(tmp_path, file):
    workdir = Workdir(tmp_path)
    assert workdir.latest_result() is None
    for age, (name, state) in enumerate([("unfinished", None), ("newer", SUCCEEDED), ("older", SUCCEEDED)]):
        folder = write_run(workdir.runs / name, ("gate", {"metrics": (file, {})}), state=state)
        os.utime(folder / OUTPUTS, (1e9 - age, 1e9 - age))
    latest = workdir.latest_result()
    assert latest is not None
    assert latest.folder.name == "newer"


def test_figures_are_the_numbers_among_the_metrics_of_each_step(tmp_path, file):
    folder = write_run(
        tmp_path / "run",
        (
            "train_lora",
            {"metrics": (file, {"steps": 6, "loss": 0.5, "display_name": "metrics"}), "adapter": (file, {"n": 1})},
        ),
        ("evaluate", {"metrics": (file, {"tuned_validation_loss": 0.25})}),
    )
    result = read_result(folder)
    assert result is not None
    figures = {"train_lora": {"steps": 6, "loss": 0.5}, "evaluate": {"tuned_validation_loss": 0.25}}
    assert result.figures == figures
    write_figures(folder)
    assert json.loads((folder / "figures.json").read_text()) == figures


def test_locations_name_the_model_its_address_the_adapter_and_the_log(tmp_path, file):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model-Q8_0.gguf").touch()
    published = {"store": "s3://bucket/lorry", "sha256": "ab12"}
    folder = write_run(
        tmp_path / "run",
        ("train_lora", {"adapter": (file.parent, {})}),
        ("export_gguf", {"model": (model, {})}),
        ("publish_model", {"published": (file, published)}),
    )
    (folder / "split.html").touch()
    result = read_result(folder)
    assert result is not None
    assert result.locations == {
        "model": model / "model-Q8_0.gguf",
        "published": "s3://bucket/lorry/models/ab12",
        "adapter": file.parent,
        "split report": folder / "split.html",
        "log": folder / "log.txt",
    }
    (model / "model-Q8_0.gguf").unlink()
    assert result.model == model / "model.gguf"


def test_kept_outputs_are_copied_and_a_file_of_a_folder_too(tmp_path, file):
    folder = write_run(
        tmp_path / "run", ("one", {"report": (file, {}), "adapter": (file.parent, {})}), ("two", {"report": (file, {})})
    )
    keep_outputs(folder, [Step("one", kept={"report": "one.html", "adapter/file": "run.json", "gone": "gone.txt"})])
    assert {path.name for path in folder.iterdir()} == {OUTPUTS, "one.html", "run.json"}
    assert (folder / "run.json").read_text() == "content"


def test_what_a_step_left_several_times_is_numbered(tmp_path, file):
    other = file.with_name("other")
    other.write_text("other content")
    folder = write_run(tmp_path / "run", ("evaluate", {"report": (file, {})}), ("evaluate", {"report": (other, {})}))
    keep_outputs(folder, [Step("evaluate", kept={"report": "winner.html"})])
    assert (folder / "winner.html").read_text() == "content"
    assert (folder / "winner-2.html").read_text() == "other content"


def test_reports_come_in_the_order_of_the_steps(tmp_path):
    for name in ("quantization.html", "split.html", "other.html"):
        (tmp_path / name).touch()
    assert list(reports_in(tmp_path)) == ["split report", "quantization report"]


def test_a_new_folder_is_named_by_its_recipe_and_is_new(tmp_path):
    folder = new_folder(tmp_path / "runs", "demo")
    assert folder.name.startswith("demo-")
    assert folder.is_dir()
    with pytest.raises(FileExistsError):
        folder.mkdir()


def test_several_runs_use_a_work_folder_at_once_and_a_gc_has_it_alone(tmp_path):
    workdir = Workdir(tmp_path / "work")
    assert not workdir.is_in_use
    with workdir.in_use(), workdir.in_use():
        assert workdir.is_in_use
        with workdir.alone() as got:
            assert not got
    assert not workdir.is_in_use
    with workdir.alone() as got:
        assert got
        assert workdir.is_in_use
