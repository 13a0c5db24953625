"""The SQLite file: its schema, its transactions, and reading it beside a page that writes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from components.chat.storage.conversations import Conversations
from components.chat.storage.database import SCHEMA_VERSION, Database, open_read_only
from components.errors import BusyError, DataError
from tests.components.chat.helpers import DONE, store


@contextmanager
def unprivileged() -> Iterator[None]:
    """Act as a user whom file permissions bind, if the tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_is_not_a_database_of_this_version_is_left_alone(tmp_path):
    (tmp_path / "chat.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match="is not a SQLite file"):
        Database(tmp_path / "chat.sqlite")
    assert (tmp_path / "chat.sqlite").read_bytes() == b"not a database" * 100
    with closing(sqlite3.connect(tmp_path / "newer.sqlite")) as tables:
        tables.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match=f"schema version 99, and this Lorry knows {SCHEMA_VERSION}; update Lorry"):
        Database(tmp_path / "newer.sqlite")
    with pytest.raises(BusyError, match=r"/proc/lorry/chat.sqlite: cannot be written .* with --data-dir"):
        Database(Path("/proc/lorry/chat.sqlite"))


def test_a_new_file_is_readable_by_its_owner_only_and_its_folder_is_made(tmp_path):
    path = tmp_path / "deep" / "chat.sqlite"
    Database(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_opened_again_keeps_its_rows_and_gets_tables_that_were_added_later(tmp_path, database):
    store(Conversations(database), "kept")
    with database.transaction() as tables:
        tables.execute("DROP TABLE label")
    again = Database(tmp_path / "chat.sqlite")
    assert [title for title, _ in Conversations(again).titles("ann")] == ["kept"]
    with again.transaction() as tables:
        assert tables.execute("SELECT count(*) FROM label").fetchone()[0] == 0
    again.close()


def test_a_transaction_that_raises_changes_nothing_and_the_next_one_works(database):
    insert = "INSERT INTO label VALUES (?, 'm', 'l')"

    def fail() -> None:
        with database.transaction() as tables:
            tables.execute(insert, ("lost",))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.transaction() as tables:
        tables.execute(insert, ("kept",))
    with database.transaction() as tables:
        assert [row["server"] for row in tables.execute("SELECT server FROM label")] == ["kept"]


def test_threads_take_turns(database):
    def count() -> None:
        for _ in range(20):
            with database.transaction() as tables:
                (n,) = tables.execute("SELECT count(*) FROM label").fetchone()
                tables.execute("INSERT INTO label VALUES (?, 'm', 'l')", (str(n),))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.transaction() as tables:
        assert tables.execute("SELECT count(DISTINCT server) FROM label").fetchone()[0] == 80


def test_a_reader_sees_what_is_committed_while_the_page_holds_a_transaction(database, tmp_path):
    store(Conversations(database), "question", DONE)
    with database.transaction() as writing, open_read_only(tmp_path / "chat.sqlite") as tables:
        writing.execute("DELETE FROM turn")
        assert len(tables.execute("SELECT * FROM turn").fetchall()) == 2
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            tables.execute("DELETE FROM turn")


def test_a_copy_in_a_read_only_folder_is_read_with_its_write_ahead_log(database, tmp_path):
    store(Conversations(database), "question", DONE)
    copy = Path(tempfile.mkdtemp(prefix="lorry-read-only-"))
    try:
        for name in ("chat.sqlite", "chat.sqlite-wal"):
            shutil.copyfile(tmp_path / name, copy / name)
            (copy / name).chmod(0o444)
        copy.chmod(0o555)
        with unprivileged():
            with pytest.raises(sqlite3.OperationalError):
                sqlite3.connect(copy / "chat.sqlite").execute("SELECT * FROM turn")
            with open_read_only(copy / "chat.sqlite") as tables:
                assert len(tables.execute("SELECT * FROM turn").fetchall()) == 2
        assert sorted(path.name for path in copy.iterdir()) == ["chat.sqlite", "chat.sqlite-wal"]
    finally:
        copy.chmod(0o755)
        shutil.rmtree(copy)


def test_a_reader_refuses_what_is_not_a_database_of_this_version(tmp_path):
    (tmp_path / "other.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match="cannot be read as a SQLite file"), open_read_only(tmp_path / "other.sqlite"):
        pass
    with closing(sqlite3.connect(tmp_path / "empty.sqlite")) as tables:
        tables.execute("CREATE TABLE other (x)")
    with pytest.raises(DataError, match="schema version 0"), open_read_only(tmp_path / "empty.sqlite"):
        pass
