"""Base models that become a folder of this machine first: the shipped ones, and GGUF files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, STDOUT

from components.errors import ModelError
from components.runtime.interrupts import interrupt_on_sigterm
from components.storage.digests import sha256_of
from pipelines.config.addresses import SMOLLM2, TINY_BASE, hub_file
from pipelines.config.normal_code import normal_code
from pipelines.resolve import smollm2
from pipelines.resolve.hub import ask_hub

Report = Callable[[str], None]


def made_base(address: str, revision: str | None, root: Path, report: Report) -> Path:
    """The folder under ``root`` that ``address`` becomes; made once, by its content.

    Raises:
        ModelError: it cannot be fetched, or is no base model.
    """
    if address == TINY_BASE:
        return Path(_run(address, "pipelines.resolve.tiny_base", [str(root)], report))
    if address == SMOLLM2:
        folder = _folder(root, "smollm2-135m-instruct", smollm2.GGUF_SHA256)
        if not folder.is_dir():
            with smollm2.fetched_gguf(root, report) as gguf:
                _write(gguf, folder, f"{smollm2.SOURCE}, sha256 {smollm2.GGUF_SHA256}", smollm2.PUBLISHED_AS, report)
        return folder
    gguf, source = (Path(address), Path(address).name) if hub_file(address) is None else _from_hub(address, revision)
    if not gguf.is_file():
        raise ModelError(f"{gguf}: no such GGUF file; correct base_model")
    sha256 = sha256_of(gguf)
    folder = _folder(root, gguf.stem, sha256)
    if not folder.is_dir():
        _write(gguf, folder, f"{source}, sha256 {sha256}", "", report)
    return folder


def _folder(root: Path, name: str, sha256: str) -> Path:
    """Named by the file's content and by the code that reads it."""
    code = normal_code((Path(__file__).parent / "gguf_base.py").read_text(encoding="utf-8"))
    return root / f"{name}-{hashlib.sha256((sha256 + code).encode()).hexdigest()[:12]}"


def _write(gguf: Path, folder: Path, source: str, published_as: str, report: Report) -> None:
    _run(str(gguf), "pipelines.resolve.gguf_base", [str(gguf), str(folder), source, published_as], report)


def _from_hub(address: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import hf_hub_download, model_info

    repository, name = hub_file(address) or ("", "")
    info = ask_hub("model", repository, lambda: model_info(repository, revision=revision), ModelError)
    path = ask_hub("file", address, lambda: hf_hub_download(repository, name, revision=info.sha), ModelError)
    return Path(path), f"{name} of {repository}, revision {info.sha}"


def _run(what: str, module: str, arguments: list[str], report: Report) -> str:
    """The last line of a child process: torch takes seconds to load, and the command line must not need it.

    Raises:
        ModelError: it failed; its last line is the reason.
    """
    lines = [""]
    command = [sys.executable, "-m", module, *arguments]
    with interrupt_on_sigterm(), subprocess.Popen(command, stdout=PIPE, stderr=STDOUT, text=True) as child:
        assert child.stdout is not None
        try:
            for line in map(str.rstrip, child.stdout):
                lines.append(line)
                report(line)
        finally:
            child.terminate()  # it has ended already unless this process is interrupted
    if child.returncode < 0:
        raise ModelError(
            f"{what}: making a base model of it was ended by signal {-child.returncode}; where that is 9, memory ran "
            "out: it takes about four bytes a weight"
        )
    if child.returncode != 0:
        raise ModelError(lines[-1] if lines[-1].startswith(what) else f"{what}: {lines[-1]}")
    return lines[-1]
