"""Base models are checked before a run, once each: one that cannot be served is refused before it is trained."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from components.artifacts.contracts import BaseModelRef
from components.errors import LorryError, ModelError
from components.export_gguf.convert import converter_folder
from components.runtime.interrupts import interrupt_on_sigterm
from components.storage.local_files import cache_folder
from pipelines.config.addresses import claim_of
from pipelines.graph.fingerprint import code_fingerprint, installed_versions

NEEDED = ("torch", "transformers", "llama_cpp")
Targets = str | list[str]


def require_usable_bases(uses: Iterable[tuple[BaseModelRef, Targets]], report: Callable[[str], None]) -> None:
    """Check each base model with the layers that are trained on it; one that has passed is not checked again.

    Raises:
        ModelError: a base model cannot be used; the message has the reason.
    """
    targets: dict[str, list[Targets]] = {}
    bases = {}
    for base, target in uses:
        key = base.model_dump_json()
        bases[key] = base
        if target not in targets.setdefault(key, []):
            targets[key].append(target)
    for key, base in bases.items():
        _require_usable(base, targets[key], cache_folder() / "checked-bases", report)


def _require_usable(base: BaseModelRef, targets: list[Targets], folder: Path, report: Callable[[str], None]) -> None:
    for ref in (base, base.to_merge_into):
        if claim_of(ref.address):
            report(f"{ref.address}: not checked, only the cluster can read it")
            return
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        report(f"{base.address}: not checked, {', '.join(missing)} is not installed here; the export checks it")
        return
    try:
        converter_folder()
    except LorryError as error:
        report(f"{base.address}: not checked ({error})")
        return
    job = {"base_model": base.model_dump(mode="json"), "targets": targets}
    passed = folder / f"{_digest(job)}.passed"
    if passed.is_file():
        return
    report(f"checking how {base.address} is trained, exported and served")
    command = [sys.executable, "-m", "components.check_base.check", json.dumps(job)]
    with interrupt_on_sigterm(), subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            _, errors = child.communicate()
        finally:
            child.terminate()  # it has ended already unless this process is interrupted
    if child.returncode != 0:
        lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
        raise ModelError(lines[-1] if lines else f"{base.address}: its check ended with code {child.returncode}")
    folder.mkdir(parents=True, exist_ok=True)
    passed.touch()


def _digest(job: dict[str, Any]) -> str:
    """A digest of the base, of the layers to train, and of the code and libraries that check them."""
    code = code_fingerprint("components.check_base.check", installed_versions())
    return hashlib.sha256(json.dumps([job, code]).encode()).hexdigest()[:24]
