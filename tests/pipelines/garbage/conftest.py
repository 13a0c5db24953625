"""A ``kubectl`` that answers, a volume behind it, and a store with three models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.components.publish_model.models import put, write_model
from tests.pipelines.garbage.kubectl_stand_in import KubectlStandIn, install


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


@pytest.fixture
def cluster(tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch) -> KubectlStandIn:
    stand_in = install(tmp_path / "bin", volume)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("KUBECONFIG", str(stand_in.path))
    return stand_in


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """The models of a store in the folder ``store``, oldest first; all were published 40 days ago."""
    store = tmp_path / "store"
    found = [
        put(write_model(tmp_path / f"model-{number}", b"GGUF" + bytes([number]) * 99), str(store))
        for number in range(3)
    ]
    for number, sha256 in enumerate(found):
        for path in (store / "models" / sha256).iterdir():
            written = path.stat().st_mtime - 86400 * (42 - number)
            os.utime(path, (written, written))
    return found
