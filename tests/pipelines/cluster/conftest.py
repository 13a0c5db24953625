"""What tests of clusters share: a bucket, and a recipe that publishes into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.buckets import s3_server
from tests.conftest import TinyRun
from tests.pipelines.cluster.kubeflow_stand_in import STORE


@pytest.fixture
def bucket() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def recipe(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """The tiny run's recipe, with a store that pods reach."""
    path = tmp_path / "recipe.yaml"
    path.write_text(tiny_run.recipe.read_text() + f"publish:\n  store: {STORE}\n")
    return path
