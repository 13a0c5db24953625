"""The one SQLite file of the chat page: it outlives the page, the pod and the model servers."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from components.errors import BusyError, DataError

SCHEMA_VERSION = 1
# A turn knows the turn before it: asking again, or editing a question, begins a new branch and loses nothing.
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
# What came later, and an older Lorry need not know.
ADDED = "CREATE TABLE IF NOT EXISTS label (server TEXT, model TEXT, label TEXT NOT NULL, PRIMARY KEY (server, model))"


class Database:
    """A connection that threads share, one transaction at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            DataError: it is none of ours, or of a newer Lorry.
            BusyError: it cannot be written.
        """
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # of nobody else's eyes
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
            raise DataError(f"{path}: is no SQLite file ({error}); move it away, or name another --data-dir") from error

    def _make_tables(self, path: Path) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
        elif version != SCHEMA_VERSION:
            raise DataError(
                f"{path}: is of schema version {version}, and this Lorry knows {SCHEMA_VERSION}; update Lorry"
            )
        self._connection.execute(ADDED)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The tables as they stand now, while a page may be writing, and from a folder that cannot be written.

    Raises:
        DataError: it is none of ours, or of a newer Lorry.
    """
    try:
        with closing(_read_only(path)) as tables:
            tables.execute("BEGIN")
            version = tables.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise DataError(f"{path}: is of schema version {version}, and this Lorry knows {SCHEMA_VERSION}")
            yield tables
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path}: cannot be read as a SQLite file ({error})") from error


def _read_only(path: Path) -> sqlite3.Connection:
    try:
        return _opened(path)
    except sqlite3.OperationalError:
        # SQLite wants to lay a file beside one with a write-ahead log, and leaves out what is in the log else.
        with tempfile.TemporaryDirectory() as folder:
            for one in path.parent.glob(f"{path.name}*"):
                shutil.copyfile(one, Path(folder) / one.name)
            (Path(folder) / f"{path.name}-shm").unlink(missing_ok=True)
            copy = sqlite3.connect(":memory:", isolation_level=None)
            with closing(_opened(Path(folder) / path.name)) as whole:
                whole.backup(copy)
            copy.row_factory = sqlite3.Row
            return copy


def _opened(path: Path) -> sqlite3.Connection:
    tables = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30, isolation_level=None)
    tables.row_factory = sqlite3.Row
    tables.execute("SELECT count(*) FROM sqlite_master")
    return tables
