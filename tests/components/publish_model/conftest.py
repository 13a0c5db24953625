"""A model, and a store in a folder and in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.buckets import s3_server
from tests.components.publish_model.models import write_model


@pytest.fixture(params=["folder", "bucket"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "store")
    else:
        with s3_server():
            yield "s3://lorry/store"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")
