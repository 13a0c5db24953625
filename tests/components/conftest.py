"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts.contracts import BaseModelRef
from components.modeling.base_model import folder_revision
from tests.components.train_lora.training import run
from tests.conftest import chat_rows, split_rows


@pytest.fixture(scope="session")
def base(tiny_base) -> BaseModelRef:
    return BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)


@pytest.fixture(scope="session")
def rows(tmp_path_factory) -> Path:
    """A folder with ``train`` and ``validation``."""
    folder = tmp_path_factory.mktemp("rows")
    split_rows(folder, chat_rows(24), validation_rows=4)
    return folder


@pytest.fixture(scope="session")
def undisturbed(base, rows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(base, rows, folder)
    return folder
