"""Signing images with cosign, where ``COSIGN_KEY`` names a key: a file, or one of a cloud's key service."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from components.errors import LorryError

KEY_VARIABLE = "COSIGN_KEY"


def signing_key(pushes: bool) -> str | None:
    """The key to sign with; None where the environment names none. cosign asks ``COSIGN_PASSWORD`` for its password.

    Raises:
        LorryError: there is a key and no cosign, or the images are not pushed.
    """
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        return None
    if shutil.which("cosign") is None:
        raise LorryError(
            f"{KEY_VARIABLE} is set, and cosign is not on this machine; install it "
            f"(https://docs.sigstore.dev/cosign/system_config/installation), or unset {KEY_VARIABLE}"
        )
    if not pushes:
        raise LorryError(f"{KEY_VARIABLE} is set: a signature lies beside the image in its registry; add PUSH=1")
    return key


def push(engine: str, image: str) -> str:
    """Push an image; give ``repository@digest``.

    Raises:
        LorryError: the registry refuses; the engine has said why.
    """
    print(f"{image}: pushing", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        digest_file = Path(folder) / "digest"
        more = [] if engine == "docker" else ["--digestfile", str(digest_file)]
        if subprocess.run([engine, "push", *more, image], check=False).returncode != 0:
            raise LorryError(f"{image}: {engine} cannot push it; log in to the registry, or correct LORRY_REGISTRY")
        if engine != "docker":
            return f"{image.rpartition(':')[0]}@{digest_file.read_text().strip()}"
    command = [engine, "inspect", "--type", "image", "--format", "{{index .RepoDigests 0}}", image]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def sign(key: str, image: str, sbom: Path) -> None:
    """Sign an image by its digest, and attest what is in it.

    Raises:
        LorryError: cosign fails; it has said why.
    """
    attest = ["cosign", "attest", "--yes", "--key", key, "--type", "cyclonedx", "--predicate", str(sbom), image]
    for command in (["cosign", "sign", "--yes", "--key", key, image], attest):
        print(f"{image}: {' '.join(command[:2])}", flush=True)
        if subprocess.run(command, check=False).returncode != 0:
            raise LorryError(f"{image}: {' '.join(command[:2])} failed; its own words stand above")
