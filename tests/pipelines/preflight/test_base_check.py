"""Which base models are checked before a run, and how often."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from components.artifacts.contracts import BaseModelRef
from components.errors import ModelError
from pipelines.preflight import base_check
from pipelines.preflight.base_check import require_usable_bases


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A program in the place of Python: it notes that it ran, and ends as the file ``ending`` has it."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho run >> {tmp_path}/ran\n. {tmp_path}/ending\n")
    program.chmod(0o755)
    (tmp_path / "ending").write_text("exit 0")
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("LORRY_CACHE", str(tmp_path / "cache"))
    return tmp_path


def n_checks(folder: Path) -> int:
    ran = folder / "ran"
    return len(ran.read_text().splitlines()) if ran.is_file() else 0


def base(address: str = "/models/base") -> BaseModelRef:
    return BaseModelRef(address=address, revision="1" * 40, weight_bytes=1)


def test_a_base_is_checked_once_with_all_its_targets_and_not_again(child):
    lines: list[str] = []
    uses = [(base(), "all-linear"), (base(), ["q_proj"]), (base(), "all-linear")]
    require_usable_bases(uses, lines.append)
    assert n_checks(child) == 1
    assert lines == ["checking how /models/base is trained, exported and served"]
    require_usable_bases(uses, lines.append)
    assert n_checks(child) == 1
    require_usable_bases([(base(), "all-linear")], lines.append)
    assert n_checks(child) == 2


def test_a_base_that_fails_is_refused_with_the_last_line_and_checked_again(child):
    (child / "ending").write_text("echo noise >&2; echo 'lora_target_modules: no such layer' >&2; echo >&2; exit 1")
    for attempt in (1, 2):
        with pytest.raises(ModelError, match=r"^lora_target_modules: no such layer$"):
            require_usable_bases([(base(), "all-linear")], print)
        assert n_checks(child) == attempt


def test_a_check_that_dies_without_a_word_has_its_exit_code(child):
    (child / "ending").write_text("exit 3")
    with pytest.raises(ModelError, match=r"/models/base: its check ended with code 3"):
        require_usable_bases([(base(), "all-linear")], print)


def test_what_cannot_be_checked_here_is_reported_and_passes(child, monkeypatch):
    lines: list[str] = []
    require_usable_bases([(base("pvc://models/base"), "all-linear")], lines.append)
    monkeypatch.setattr(base_check, "NEEDED", ("no_such_library",))
    require_usable_bases([(base(), "all-linear")], lines.append)
    assert n_checks(child) == 0
    assert "only the cluster can read it" in lines[0]
    assert "no_such_library is not installed here" in lines[1]


def test_other_code_or_another_library_checks_again(child, monkeypatch):
    require_usable_bases([(base(), "all-linear")], print)
    monkeypatch.setattr(base_check, "installed_versions", lambda: {"transformers": "0.0.1"})
    require_usable_bases([(base(), "all-linear")], print)
    assert n_checks(child) == 2
