"""A visit to the recorded cluster, with the outcomes that a test gives its probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipelines.cluster.doctor.subject import ClusterState, Outcome, Subject
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.overlay import load_overlay, render
from pipelines.config.recipe import RECIPES, load_recipe
from pipelines.graph.images import load_settings
from tests.pipelines.cluster.doctor.recorded_cluster import LOCAL, RecordedCluster


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Outcome]], Subject]:
    RecordedCluster().install(tmp_path, monkeypatch)
    kubectl = Kubectl()
    overlay, pipelines = load_overlay(kubectl, LOCAL), render(kubectl, LOCAL / "pipelines")

    def with_outcomes(outcomes: Mapping[str, Outcome]) -> Subject:
        placement = load_recipe(RECIPES / "demo.yaml").placement
        return Subject(
            kubectl, ClusterState(kubectl), placement, "kubeflow", load_settings(), overlay, pipelines,
            probing=True, outcomes=outcomes,
        )  # fmt: skip

    return with_outcomes
