"""The SQLite file of the chat page: its schema, its transactions, and reading it from another process."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from components.errors import BusyError, DataError

DATABASE_NAME = "chat.sqlite"
SCHEMA_VERSION = 1
# Each turn names the turn before it: asking again, or editing a question, begins a new branch and loses nothing.
SCHEMA = """
CREATE TABLE conversation (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, title TEXT NOT NULL, system TEXT NOT NULL,
    head INTEGER, created REAL NOT NULL, changed REAL NOT NULL
);
CREATE INDEX conversation_of_user ON conversation (user, changed);
CREATE TABLE turn (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation TEXT NOT NULL REFERENCES conversation ON DELETE CASCADE,
    parent INTEGER, role TEXT NOT NULL, system TEXT NOT NULL, content TEXT NOT NULL, model TEXT NOT NULL,
    n_tokens INTEGER, first_token_seconds REAL, seconds REAL, finish_reason TEXT,
    liked INTEGER, note TEXT NOT NULL DEFAULT '', created REAL NOT NULL
);
CREATE INDEX turn_of_conversation ON turn (conversation);
CREATE TABLE comparison (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, system TEXT NOT NULL, prompt TEXT NOT NULL,
    blind INTEGER NOT NULL, vote TEXT, created REAL NOT NULL
);
CREATE TABLE candidate (
    comparison TEXT NOT NULL REFERENCES comparison ON DELETE CASCADE, letter TEXT NOT NULL,
    model TEXT NOT NULL, content TEXT NOT NULL,
    n_tokens INTEGER, first_token_seconds REAL, seconds REAL, finish_reason TEXT,
    PRIMARY KEY (comparison, letter)
);
"""
# Added later; an older Lorry works without it, so the schema version stays.
ADDED_TABLES = (
    "CREATE TABLE IF NOT EXISTS label (server TEXT, model TEXT, label TEXT NOT NULL, PRIMARY KEY (server, model))"
)


class Database:
    """A connection that threads share, one transaction at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            DataError: it is not a SQLite file, or is of a newer Lorry.
            BusyError: it cannot be written.
        """
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # readable by nobody else
            self._connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            # Readers of another process (a backup, the export of feedback) do not wait for the page.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._make_tables(path)
        except (OSError, sqlite3.OperationalError) as error:
            raise BusyError(f"{path}: cannot be written ({error}); name another folder with --data-dir") from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{path}: is not a SQLite file ({error}); move it away, or name another --data-dir"
            ) from error

    def _make_tables(self, path: Path) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
        elif version != SCHEMA_VERSION:
            raise DataError(
                f"{path}: is of schema version {version}, and this Lorry knows {SCHEMA_VERSION}; update Lorry"
            )
        self._connection.execute(ADDED_TABLES)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The tables within one transaction; it is rolled back if the context raises."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


@contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A snapshot of the tables, also while a page writes to the file or if its folder is read-only.

    Raises:
        DataError: it is not a SQLite file, or is of another schema version.
    """
    try:
        with closing(_read_tables(path)) as tables:
            tables.execute("BEGIN")
            version = tables.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise DataError(f"{path}: is of schema version {version}, and this Lorry knows {SCHEMA_VERSION}")
            yield tables
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path}: cannot be read as a SQLite file ({error})") from error


def _read_tables(path: Path) -> sqlite3.Connection:
    try:
        return _connect_read_only(path)
    except sqlite3.OperationalError:
        # To read a write-ahead log, SQLite must create a file beside it; without that it ignores the log.
        with tempfile.TemporaryDirectory() as folder:
            for file in path.parent.glob(f"{path.name}*"):
                shutil.copyfile(file, Path(folder) / file.name)
            (Path(folder) / f"{path.name}-shm").unlink(missing_ok=True)
            in_memory = sqlite3.connect(":memory:", isolation_level=None)
            with closing(_connect_read_only(Path(folder) / path.name)) as tables:
                tables.backup(in_memory)
            in_memory.row_factory = sqlite3.Row
            return in_memory


def _connect_read_only(path: Path) -> sqlite3.Connection:
    tables = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30, isolation_level=None)
    tables.row_factory = sqlite3.Row
    tables.execute("SELECT count(*) FROM sqlite_master")
    return tables
