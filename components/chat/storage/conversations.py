"""Conversations of each user: their turns, and which answers the user liked."""

from __future__ import annotations

import sqlite3
import time
import uuid
from dataclasses import dataclass
from typing import Literal

from components.chat.storage.completion import Completion
from components.chat.storage.database import Database
from components.errors import DataError

LONGEST_TITLE = 48


@dataclass(frozen=True)
class ChatTurn:
    """One message. ``completion`` has the figures of an assistant's turn; ``liked`` is None without an opinion."""

    id: int
    role: Literal["user", "assistant"]
    content: str
    model: str
    completion: Completion | None
    liked: bool | None
    note: str


@dataclass(frozen=True)
class Conversation:
    """The turns of the current branch, in order."""

    id: str
    title: str
    system: str
    turns: tuple[ChatTurn, ...]


class Conversations:
    """Every method takes a user, and returns and changes nothing of another user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_question(
        self, user: str, conversation: str, question: str, system: str, *, replaces: int | None = None
    ) -> Conversation:
        """Add a question at the end, or on a new branch instead of the turn ``replaces``.

        A ``conversation`` of ``""`` begins a new one, named after the question.

        Raises:
            DataError: the user has no such conversation, or there is no such question in it.
        """
        with self._database.transaction() as tables:
            if not conversation:
                conversation = _begin(tables, user, question)
            parent = _own(tables, user, conversation)["head"]
            if replaces is not None:
                parent = _own_turn(tables, user, replaces, "user")["parent"]
            tables.execute("UPDATE conversation SET system = ? WHERE id = ?", (system, conversation))
            values = (conversation, parent, "user", system, question, "")
            _set_head(tables, conversation, _insert(tables, values))
            return _load(tables, user, conversation)

    def rewind(self, user: str, conversation: str, system: str) -> Conversation:
        """Go back to the last question, if there is one; the answer to it stays stored on a branch of its own."""
        with self._database.transaction() as tables:
            questions = [turn.id for turn in _load(tables, user, conversation).turns if turn.role == "user"]
            tables.execute("UPDATE conversation SET system = ? WHERE id = ?", (system, conversation))
            if questions:
                _set_head(tables, conversation, questions[-1])
            return _load(tables, user, conversation)

    def save_answer(
        self, user: str, opened: Conversation, model: str, completion: Completion, *, turn: int | None = None
    ) -> int:
        """Store an answer, as far as it has come, after the last turn of ``opened``; returns the id of its turn.

        Given again as ``turn``, that id updates the answer. The answer becomes the conversation's last turn, unless
        the conversation has changed since it was opened.

        Raises:
            DataError: the user has no such conversation any more.
        """
        with self._database.transaction() as tables:
            head = _own(tables, user, opened.id)["head"]
            if turn is None:
                parent = opened.turns[-1].id
                turn = _insert(tables, (opened.id, parent, "assistant", opened.system, "", model))
                if head == parent:
                    _set_head(tables, opened.id, turn)
            tables.execute(
                "UPDATE turn SET content = ?, model = ?, n_tokens = ?, first_token_seconds = ?, seconds = ?,"
                " finish_reason = ? WHERE id = ? AND conversation = ?",
                (completion.text, model, completion.n_tokens, completion.first_token_seconds, completion.seconds,
                 completion.finish_reason, turn, opened.id),
            )  # fmt: skip
        return turn

    def titles(self, user: str) -> list[tuple[str, str]]:
        """(title, id) of the user's conversations, the last changed first."""
        with self._database.transaction() as tables:
            rows = tables.execute(
                "SELECT title, id FROM conversation WHERE user = ? ORDER BY changed DESC", (user,)
            ).fetchall()
        return [(row["title"], row["id"]) for row in rows]

    def load(self, user: str, conversation: str) -> Conversation:
        """The current branch of a conversation.

        Raises:
            DataError: the user has no such conversation.
        """
        with self._database.transaction() as tables:
            return _load(tables, user, conversation)

    def clear(self, user: str, conversation: str) -> None:
        """Empty the conversation, which keeps its title; its turns stay stored, for ``lorry feedback``."""
        with self._database.transaction() as tables:
            _own(tables, user, conversation)
            _set_head(tables, conversation, None)

    def rename(self, user: str, conversation: str, title: str) -> None:
        """Change the title."""
        with self._database.transaction() as tables:
            _own(tables, user, conversation)
            tables.execute("UPDATE conversation SET title = ? WHERE id = ?", (title, conversation))

    def delete(self, user: str, conversation: str) -> None:
        """Delete the conversation with all its turns and opinions."""
        with self._database.transaction() as tables:
            _own(tables, user, conversation)
            tables.execute("DELETE FROM conversation WHERE id = ?", (conversation,))

    def rate(self, user: str, turn: int, liked: bool | None) -> None:
        """Store whether the user likes an answer; None removes the opinion and its note."""
        with self._database.transaction() as tables:
            _own_turn(tables, user, turn, "assistant")
            tables.execute(
                "UPDATE turn SET liked = ?, note = iif(? IS NULL, '', note) WHERE id = ?", (liked, liked, turn)
            )

    def set_note(self, user: str, turn: int, note: str) -> None:
        """Store why the user likes an answer or not."""
        with self._database.transaction() as tables:
            _own_turn(tables, user, turn, "assistant")
            tables.execute("UPDATE turn SET note = ? WHERE id = ?", (note, turn))


def _turn(row: sqlite3.Row) -> ChatTurn:
    liked = None if row["liked"] is None else bool(row["liked"])
    completion = Completion.from_row(row) if row["role"] == "assistant" else None
    return ChatTurn(row["id"], row["role"], row["content"], row["model"], completion, liked, row["note"])


def _own(tables: sqlite3.Connection, user: str, conversation: str) -> sqlite3.Row:
    row: sqlite3.Row | None = tables.execute(
        "SELECT * FROM conversation WHERE id = ? AND user = ?", (conversation, user)
    ).fetchone()
    if row is None:
        raise DataError("this conversation is not there any more; begin a new one")
    return row


def _own_turn(tables: sqlite3.Connection, user: str, turn: int, role: str) -> sqlite3.Row:
    row: sqlite3.Row | None = tables.execute(
        "SELECT turn.* FROM turn JOIN conversation ON conversation.id = turn.conversation"
        " WHERE turn.id = ? AND user = ? AND role = ?",
        (turn, user, role),
    ).fetchone()
    if row is None:
        raise DataError(f"this {'answer' if role == 'assistant' else 'question'} is not there any more")
    return row


def _begin(tables: sqlite3.Connection, user: str, question: str) -> str:
    conversation, now = uuid.uuid4().hex, time.time()
    title = " ".join(question.split())
    title = title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…"
    tables.execute("INSERT INTO conversation VALUES (?, ?, ?, '', NULL, ?, ?)", (conversation, user, title, now, now))
    return conversation


def _load(tables: sqlite3.Connection, user: str, conversation: str) -> Conversation:
    head = _own(tables, user, conversation)
    turns = tables.execute(
        "WITH RECURSIVE path (id, parent) AS ("
        " SELECT id, parent FROM turn WHERE id = ? AND conversation = ?"
        " UNION ALL SELECT turn.id, turn.parent FROM turn JOIN path ON turn.id = path.parent)"
        " SELECT turn.* FROM turn JOIN path USING (id) ORDER BY turn.id",
        (head["head"], conversation),
    ).fetchall()
    return Conversation(conversation, head["title"], head["system"], tuple(map(_turn, turns)))


def _insert(tables: sqlite3.Connection, values: tuple[str, int | None, str, str, str, str]) -> int:
    turn = tables.execute(
        "INSERT INTO turn (conversation, parent, role, system, content, model, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*values, time.time()),
    ).lastrowid
    assert turn is not None
    return turn


def _set_head(tables: sqlite3.Connection, conversation: str, turn: int | None) -> None:
    tables.execute("UPDATE conversation SET head = ?, changed = ? WHERE id = ?", (turn, time.time(), conversation))
