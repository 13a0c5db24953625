"""Which change of code or libraries lets which step run again."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.config.steps import RUN_STEPS, STEPS
from pipelines.graph import fingerprint, images
from pipelines.graph.fingerprint import COMPUTING, code_fingerprint, files_of, installed_versions
from pipelines.graph.images import ImageSettings, step_fingerprint
from pipelines.graph.placement import StepPlacer
from tests.conftest import ROOT

SETTINGS = ImageSettings(
    registry="registry.example/lorry", base_image="debian@sha256:0", platform="linux/amd64", torch="cpu"
)


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A copy of the tree whose files may be changed."""
    for folder in ("components", "images"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    monkeypatch.setattr(images, "ROOT", tmp_path)
    monkeypatch.setattr(images, "FOLDER", tmp_path / "images")
    return tmp_path


def run_again_after(change: Callable[[], object]) -> list[str]:
    """The steps whose fingerprint differs before and after a change."""

    def all_now() -> dict[str, str]:
        return {name: step_fingerprint(name, SETTINGS) for name in STEPS}

    before = all_now()
    change()
    after = all_now()
    return [name for name in STEPS if before[name] != after[name]]


def replace(path: Path, old: str, new: str) -> Callable[[], object]:
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    return lambda: path.write_text(text.replace(old, new))


def append(path: Path, code: str) -> Callable[[], object]:
    assert path.is_file()
    return lambda: path.write_text(path.read_text() + code)


TRAIN = ["train_trial", "train_lora"]


def test_no_step_runs_again_for_comments_docstrings_and_formatting(tree):
    path = tree / "components" / "train_lora" / "train.py"
    tree_of = ast.parse(path.read_text())
    docstring = ast.get_docstring(tree_of, clean=False)
    assert run_again_after(append(path, "\n\n# a comment\n")) == []
    assert run_again_after(replace(path, docstring, "Other words.")) == []
    assert run_again_after(replace(path, "\n\n\n", "\n\n\n\n\n")) == []


def test_no_step_runs_again_for_the_words_of_errors_and_log_lines(tree):
    path = tree / "components" / "train_lora" / "words.py"
    path.write_text('import logging\nlog = logging.getLogger(__name__)\n\n\ndef f(n):\n    log.info("at %d", n)\n'
                    '    if n:\n        raise ValueError(f"n is {n}")\n')  # fmt: skip
    append(tree / "components" / "train_lora" / "train.py", "\nfrom components.train_lora.words import f\n")()
    assert run_again_after(replace(path, "n is {n}", "{n} cannot be")) == []
    assert run_again_after(replace(path, 'log.info("at %d", n)', 'log.info("step %d of many", n)')) == []
    assert run_again_after(replace(path, "ValueError", "TypeError")) == TRAIN


def test_no_step_runs_again_for_errors_the_store_and_the_process_around_it(tree):
    components = tree / "components"
    for path in ("errors.py", "storage/store.py", "storage/download.py", "runtime/kfp_step.py", "runtime/sockets.py"):
        assert run_again_after(append(components / path, "\n\nCHANGED = 1\n")) == [], path


def test_changed_code_runs_the_steps_again_that_import_it(tree):
    components = tree / "components"
    assert run_again_after(append(components / "train_lora" / "history.py", "\n\nCHANGED = 1\n")) == TRAIN
    changed = run_again_after(append(components / "modeling" / "chat_template.py", "\n\nCHANGED = 1\n"))
    assert set(changed) == {"split_data", *TRAIN, "evaluate", "export_gguf", "evaluate_gguf"}
    assert run_again_after(append(components / "model_server" / "http" / "api.py", "\n\nCHANGED = 1\n")) == []
    assert run_again_after(append(components / "chat" / "command.py", "\n\nCHANGED = 1\n")) == []


def test_a_process_that_a_step_starts_belongs_to_its_code(tree):
    assert run_again_after(append(tree / "components" / "train_lora" / "__main__.py", "\n\nCHANGED = 1\n")) == TRAIN


def test_a_changed_report_runs_the_step_again_that_writes_it(tree):
    template = tree / "components" / "split_data" / "report.html.jinja"
    assert run_again_after(append(template, "<p>changed</p>")) == ["split_data"]


def test_a_default_is_a_parameter_of_the_step_and_not_its_code(tree):
    config = tree / "components" / "train_lora" / "config.py"
    assert run_again_after(replace(config, "] = 16", "] = 32")) == []
    assert run_again_after(replace(config, "gt=0", "gt=1"))[-1:] == ["train_lora"]


def test_another_version_of_a_computing_library_runs_the_steps_again_whose_image_has_it(tree):
    locks = tree / "images"
    assert run_again_after(replace(locks / "train" / "requirements-cpu.lock", "trl==", "trl==9")) == TRAIN
    assert set(run_again_after(replace(locks / "train" / "requirements-cpu.lock", "peft==", "peft==9"))) == {
        *TRAIN, "evaluate",
    }  # fmt: skip
    assert run_again_after(replace(locks / "train" / "requirements-cuda.lock", "trl==", "trl==9")) == []
    assert set(run_again_after(replace(locks / "llama" / "llama-cpp-python.lock", "python==", "python==9"))) == {
        "export_gguf", "evaluate_gguf",
    }  # fmt: skip
    assert run_again_after(replace(locks / "data" / "requirements.lock", "pydantic==", "pydantic==9")) == []


def test_on_one_machine_the_installed_versions_count(monkeypatch):
    before = {step.name: step_fingerprint(step.name, None) for step in RUN_STEPS}
    found = {**installed_versions(), "peft": "0.0.1", "kfp": "0.0.1"}
    monkeypatch.setattr(images, "installed_versions", lambda: found)
    changed = {name for name, value in before.items() if step_fingerprint(name, None) != value}
    assert changed == {"train_lora", "evaluate", "export_gguf", "evaluate_gguf"}


def test_only_libraries_that_a_step_imports_count(tree):
    train, data = (tree / "images" / name for name in ("train/requirements-cpu.lock", "data/requirements.lock"))
    assert run_again_after(replace(train, "\nrensa==", "\nrensa==9")) == []
    assert run_again_after(replace(data, "\nrensa==", "\nrensa==9")) == ["split_data"]
    # Behind transformers, which reads the tokenizer.
    assert run_again_after(replace(data, "\ntokenizers==", "\ntokenizers==9")) == ["split_data"]


def test_a_split_that_asks_the_base_model_depends_on_its_libraries(monkeypatch):
    def fingerprint_of_split(*, split_with_model: bool) -> str:
        return StepPlacer(None, split_with_model=split_with_model).fingerprint("split_data")

    before = {with_model: fingerprint_of_split(split_with_model=with_model) for with_model in (False, True)}
    found = {**installed_versions(), "torch": "0.0.1"}
    monkeypatch.setattr(images, "installed_versions", lambda: found)
    after = {with_model: fingerprint_of_split(split_with_model=with_model) for with_model in (False, True)}
    assert [before[with_model] == after[with_model] for with_model in (False, True)] == [True, False]


def test_a_library_that_computes_nothing_is_no_part_of_a_fingerprint():
    module = "components.train_lora.component"
    assert code_fingerprint(module, {"typer": "1"}) == code_fingerprint(module, {"typer": "2"})
    assert code_fingerprint(module, {"torch": "1"}) != code_fingerprint(module, {"torch": "2"})
    assert set(installed_versions()) == set(COMPUTING.values())


def test_moved_packages_are_whole_in_the_files_of_a_part():
    files = {str(path.relative_to(ROOT)) for path in files_of("model_server")}
    assert {
        "components/__init__.py",
        "components/model_server/http/__init__.py",
        "components/gguf/__init__.py",
    } <= files
    assert not any(name.startswith("components/chat/") for name in files)
