"""The chat page's database and conversations, for its tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.chat.storage.conversations import Conversations
from components.chat.storage.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "chat.sqlite")
    yield database
    database.close()


@pytest.fixture
def conversations(database: Database) -> Conversations:
    return Conversations(database)
