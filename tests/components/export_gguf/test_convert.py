"""The steps of the export, with llama.cpp's converter and library faked; test_export_gguf runs the real ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.errors import LorryError, ModelError
from components.export_gguf import convert as module
from components.export_gguf.convert import CONVERTER, About, convert, converter_folder, fallbacks_in
from components.export_gguf.tokenizer import RULES_NAME

WARNING = "cols 576 x 1536 are not divisible by 256 (required for type {:>8}) - falling back to {:>6}\n"


def test_tensors_that_fall_back_are_counted_by_their_types():
    warnings = WARNING.format("q5_K", "q5_1") * 3 + "something else\n" + WARNING.format("q6_K", "q8_0")
    assert fallbacks_in(warnings) == (
        "4 tensors have rows that are no multiple of the type's block, and take another type: "
        "3 q5_1 in place of q5_K, 1 q8_0 in place of q6_K"
    )
    assert fallbacks_in("") == fallbacks_in("llama_model_quantize: done") == ""


def test_the_converter_is_found_by_the_variable_or_beside_python(monkeypatch, tmp_path):
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    with pytest.raises(LorryError, match=rf"{tmp_path}/venv/share/llama.cpp/{CONVERTER}: no such file; run make, or"):
        converter_folder()
    (tmp_path / CONVERTER).touch()
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path))
    assert converter_folder() == tmp_path


@pytest.fixture
def ran(monkeypatch, tmp_path) -> SimpleNamespace:
    """The command of the converter; it ends with ``code``, and writes ``stderr`` and half a file."""
    seen = SimpleNamespace(command=[], code=0, stderr="")

    def run(command: list[str], **_: Any) -> Any:
        seen.command = command
        Path(command[command.index("--outfile") + 1]).write_text("half")
        return SimpleNamespace(returncode=seen.code, stderr=seen.stderr)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(module, "converter_folder", lambda: Path("/llama.cpp"))
    return seen


def test_the_converter_gets_the_rules_and_the_metadata(ran, tmp_path):
    merged = tmp_path / "merged"
    merged.mkdir()
    rules = {"add_space_prefix": None, "normalizer": "NFC", "strips_right": False, "eot_token_id": 7}
    (merged / RULES_NAME).write_text(json.dumps(rules))
    convert(merged, tmp_path / "out.gguf", About("my-model", license="mit"))
    assert ran.command[1:4] == ["-m", "components.export_gguf.upstream", "/llama.cpp"]
    keys = json.loads(ran.command[4])
    assert keys["rules"] == rules
    assert (keys["about"]["name"], keys["about"]["license"], keys["about"]["base_name"]) == ("my-model", "mit", None)
    assert ran.command[5:] == [str(merged), "--outfile", str(tmp_path / "out.gguf"), "--outtype", "f16"]


def test_without_rules_or_metadata_the_folder_names_the_model(ran, tmp_path):
    convert(tmp_path, tmp_path / "out.gguf", vocab_only=True)
    keys = json.loads(ran.command[4])
    assert (keys["rules"], keys["about"]["name"]) == (None, tmp_path.name)
    assert ran.command[-1] == "--vocab-only"


def test_a_refusal_has_the_last_line_and_leaves_no_file(ran, tmp_path, caplog):
    ran.code, ran.stderr = 1, "Traceback\n  File\nNotImplementedError: no such model\n\n"
    with pytest.raises(ModelError, match=r"converter refuses it \(NotImplementedError: no such model\); the step's"):
        convert(tmp_path, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
    assert "Traceback" in caplog.text
