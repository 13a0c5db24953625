"""Conversations: whose they are, what was said in them, and what their users thought of the answers."""

from __future__ import annotations

import sqlite3
import time
import uuid
from dataclasses import dataclass
from typing import Literal

from components.chat.client.completions import Answer
from components.chat.storage.database import Database
from components.errors import DataError

LONGEST_TITLE = 48


@dataclass(frozen=True)
class Turn:
    """What one side said. ``answer`` has the figures of an assistant's turn, ``liked`` None is no opinion."""

    id: int
    role: Literal["user", "assistant"]
    content: str
    model: str
    answer: Answer | None
    liked: bool | None
    note: str


@dataclass(frozen=True)
class Conversation:
    """What was said, in order, up to where it stands now."""

    id: str
    title: str
    system: str
    turns: tuple[Turn, ...]


class Conversations:
    """Everything here is asked for by a user, and nothing of another user is given or changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(
        self, user: str, conversation: str, question: str, system: str, *, instead_of: int | None = None
    ) -> Conversation:
        """Add a question at the end, or in the place of an earlier one; ``""`` begins a conversation named after it.

        Raises:
            DataError: the user has no such conversation, or there is no such question in it.
        """
        with self._database.transaction() as tables:
            if not conversation:
                conversation = _begin(tables, user, question)
            after = _own(tables, user, conversation)["head"]
            if instead_of is not None:
                after = _own_turn(tables, user, instead_of, "user")["parent"]
            tables.execute("UPDATE conversation SET system = ? WHERE id = ?", (system, conversation))
            values = (conversation, after, "user", system, question, "")
            _stand_at(tables, conversation, _insert(tables, values))
            return _load(tables, user, conversation)

    def ask_again(self, user: str, conversation: str, system: str) -> Conversation:
        """Go back to the last question, where there is one: the answers behind it are no part of it any more."""
        with self._database.transaction() as tables:
            questions = [turn.id for turn in _load(tables, user, conversation).turns if turn.role == "user"]
            tables.execute("UPDATE conversation SET system = ? WHERE id = ?", (system, conversation))
            if questions:
                _stand_at(tables, conversation, questions[-1])
            return _load(tables, user, conversation)

    def answer(self, user: str, opened: Conversation, model: str, answer: Answer, *, turn: int | None = None) -> int:
        """Keep an answer to a conversation as it stood, as far as it has come; gives its turn, to keep more there.

        The conversation stands there from now on, unless it has gone on elsewhere meanwhile.

        Raises:
            DataError: the user has no such conversation any more.
        """
        with self._database.transaction() as tables:
            head = _own(tables, user, opened.id)["head"]
            if turn is None:
                after = opened.turns[-1].id
                turn = _insert(tables, (opened.id, after, "assistant", opened.system, "", model))
                if head == after:
                    _stand_at(tables, opened.id, turn)
            tables.execute(
                "UPDATE turn SET content = ?, model = ?, n_tokens = ?, first_token_seconds = ?, seconds = ?,"
                " finish_reason = ? WHERE id = ? AND conversation = ?",
                (answer.text, model, answer.n_tokens, answer.first_token_seconds, answer.seconds,
                 answer.finish_reason, turn, opened.id),
            )  # fmt: skip
        return turn

    def titles(self, user: str) -> list[tuple[str, str]]:
        """(title, id) of the user's conversations, the latest first."""
        with self._database.transaction() as tables:
            rows = tables.execute(
                "SELECT title, id FROM conversation WHERE user = ? ORDER BY changed DESC", (user,)
            ).fetchall()
        return [(row["title"], row["id"]) for row in rows]

    def load(self, user: str, conversation: str) -> Conversation:
        """The conversation as it stands.

        Raises:
            DataError: the user has no such conversation.
        """
        with self._database.transaction() as tables:
            return _load(tables, user, conversation)

    def clear(self, user: str, conversation: str) -> None:
        """Begin anew under the same title; what was said is no part of the conversation any more."""
        with self._database.transaction() as tables:
            _own(tables, user, conversation)
            _stand_at(tables, conversation, None)

    def rename(self, user: str, conversation: str, title: str) -> None:
        """Change the title."""
        with self._database.transaction() as tables:
            _own(tables, user, conversation)
            tables.execute("UPDATE conversation SET title = ? WHERE id = ?", (title, conversation))

    def delete(self, user: str, conversation: str) -> None:
        """Delete all that was said in it, with what was thought of it."""
        with self._database.transaction() as tables:
            _own(tables, user, conversation)
            tables.execute("DELETE FROM conversation WHERE id = ?", (conversation,))

    def judge(self, user: str, turn: int, liked: bool | None) -> None:
        """Note whether the user likes an answer; None takes it back, with its note."""
        with self._database.transaction() as tables:
            _own_turn(tables, user, turn, "assistant")
            tables.execute(
                "UPDATE turn SET liked = ?, note = iif(? IS NULL, '', note) WHERE id = ?", (liked, liked, turn)
            )

    def explain(self, user: str, turn: int, note: str) -> None:
        """Note why."""
        with self._database.transaction() as tables:
            _own_turn(tables, user, turn, "assistant")
            tables.execute("UPDATE turn SET note = ? WHERE id = ?", (note, turn))


def answer_of(row: sqlite3.Row) -> Answer:
    """The answer that a row of turns or candidates holds."""
    return Answer(
        row["content"], row["n_tokens"] or 0, row["first_token_seconds"], row["seconds"] or 0.0, row["finish_reason"]
    )


def _turn(row: sqlite3.Row) -> Turn:
    liked = None if row["liked"] is None else bool(row["liked"])
    answer = answer_of(row) if row["role"] == "assistant" else None
    return Turn(row["id"], row["role"], row["content"], row["model"], answer, liked, row["note"])


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


def _stand_at(tables: sqlite3.Connection, conversation: str, turn: int | None) -> None:
    tables.execute("UPDATE conversation SET head = ?, changed = ? WHERE id = ?", (turn, time.time(), conversation))
