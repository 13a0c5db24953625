"""A copy of the manifests, and a cluster to deploy it to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cluster.deploy import image_probe, snapshot, verify
from tests.conftest import ROOT
from tests.pipelines.cluster.deploy.cluster_stand_in import ClusterStandIn, serving


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    return tmp_path / "manifests" / "overlays" / "local"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterStandIn]:
    for module in (snapshot, verify, image_probe):
        monkeypatch.setattr(module, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(verify, "SECONDS_TO_SETTLE", 0.0)
    # Tags that are hashes of the content take a second for each pinning.
    monkeypatch.setenv("LORRY_TAG", "test-1")
    cluster = ClusterStandIn()
    with serving(cluster):
        yield cluster
