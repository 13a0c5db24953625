"""The command that checks a base: its job, and its errors; tests/test_bases.py checks whole bases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import BaseModelRef
from components.check_base import check
from components.check_base.check import _without_weights, check_base, main
from components.errors import ModelError

BASE = BaseModelRef(address="/base", revision="r", weight_bytes=0)


def run(monkeypatch: pytest.MonkeyPatch, job: dict[str, Any], error: Exception | None = None) -> list[Any]:
    """Run the command; the arguments of the check, which fails with ``error``."""
    seen: list[Any] = []

    def checked(*arguments: Any) -> None:
        seen.extend(arguments)
        if error is not None:
            raise error

    monkeypatch.setattr(check, "check_base", checked)
    monkeypatch.setattr(check.sys, "argv", ["check", json.dumps(job)])
    monkeypatch.setattr(check, "plain_logs", lambda _: None)
    main()
    return seen


def test_the_job_names_the_base_and_the_targets(monkeypatch):
    targets = ["all-linear", ["q_proj"]]
    assert run(monkeypatch, {"base_model": BASE.model_dump(), "targets": targets}) == [BASE, targets]


def test_an_error_of_lorry_is_the_last_line_and_a_bug_is_a_traceback(monkeypatch):
    job = {"base_model": BASE.model_dump(), "targets": []}
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, job, ModelError("/base: no chat template"))
    assert caught.value.code == "/base: no chat template"
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, job, ZeroDivisionError())


@pytest.fixture
def folder(tiny_base, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def ref(folder: Path) -> BaseModelRef:
    return BASE.model_copy(update={"address": str(folder)})


def test_a_model_without_weights_has_its_layers_and_takes_no_memory(folder):
    (folder / "model.safetensors").unlink()
    model = _without_weights(ref(folder))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert any(name.endswith("q_proj") for name, _ in model.named_modules())


def test_a_config_of_a_model_that_generates_no_text_is_named(folder):
    config = {"model_type": "resnet", "architectures": ["ResNetModel"], "vocab_size": 512}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"{folder}: transformers has no causal language model .*\(ResNetConfig\)"):
        _without_weights(ref(folder))


def test_a_template_that_writes_a_token_without_a_row_names_the_token(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 10}))
    with pytest.raises(ModelError, match=rf"{folder}: its chat template writes '<.*', and the embedding has no row"):
        check_base(ref(folder), [])


def test_targets_are_checked_before_the_vocabulary_is_converted(folder, monkeypatch):
    monkeypatch.setattr(check, "convert", lambda *_, **__: pytest.fail("converted"))
    with pytest.raises(ModelError, match="there is no module 'nowhere'"):
        check_base(ref(folder), ["all-linear", ["nowhere"]])


def test_a_vocabulary_that_cannot_be_converted_names_the_base_and_not_the_temporary_folder(folder, monkeypatch):
    def refuses(merged: Path, *_: Any, **__: Any) -> None:
        raise ModelError(
            f"{merged}: llama.cpp's converter refuses it (no such tokenizer); the step's log has its whole"
        )

    monkeypatch.setattr(check, "convert", refuses)
    with pytest.raises(ModelError) as caught:
        check_base(ref(folder), [])
    assert str(caught.value) == (
        f"{folder}: its vocabulary cannot be written as GGUF: llama.cpp's converter refuses it (no such tokenizer); "
        "use another base model"
    )
