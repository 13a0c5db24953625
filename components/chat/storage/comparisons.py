"""Comparisons: one prompt, the answers of several models, and which of them the user preferred."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from components.chat.client.completions import Answer
from components.chat.storage.conversations import answer_of
from components.chat.storage.database import Database
from components.errors import DataError

TIE, NONE = "tie", "none"


@dataclass
class Standing:
    """A model's votes, over all users, and its seconds over all the answers compared."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    first_token_seconds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    tokens_per_second: list[float] = field(default_factory=list)

    @property
    def share(self) -> float | None:
        """Wins, and half of ties, over votes; None before a vote."""
        votes = self.wins + self.losses + self.ties
        return (self.wins + self.ties / 2) / votes if votes else None

    def middle(self, name: str) -> float | None:
        """The median of one of the lists, or None."""
        values = getattr(self, name)
        return median(values) if values else None


class Comparisons:
    """Kept by user; only sums over models are told to everyone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(
        self, user: str, comparison: str, prompt: str, system: str, answers: Mapping[str, tuple[str, Answer]],
        *, blind: bool,
    ) -> None:  # fmt: skip
        """Keep (model, answer) of each letter, under an id that is new."""
        with self._database.transaction() as tables:
            tables.execute(
                "INSERT INTO comparison VALUES (?, ?, ?, ?, ?, NULL, ?)",
                (comparison, user, system, prompt, blind, time.time()),
            )
            tables.executemany(
                "INSERT INTO candidate VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (comparison, letter, model, answer.text, answer.n_tokens, answer.first_token_seconds,
                     answer.seconds, answer.finish_reason)
                    for letter, (model, answer) in answers.items()
                ],
            )  # fmt: skip

    def vote(self, user: str, comparison: str, vote: str) -> dict[str, tuple[str, Answer]]:
        """Note the letter that is best, ``tie`` or ``none``; gives what each letter was.

        Raises:
            DataError: the user has no such comparison, has voted already, or it has no such letter.
        """
        with self._database.transaction() as tables:
            rows = tables.execute(
                "SELECT candidate.* FROM candidate JOIN comparison ON comparison.id = comparison"
                " WHERE comparison = ? AND user = ? ORDER BY letter",
                (comparison, user),
            ).fetchall()
            if vote not in (TIE, NONE, *(row["letter"] for row in rows)) or not rows:
                raise DataError("this comparison is not there any more; compare again")
            voted = "UPDATE comparison SET vote = ? WHERE id = ? AND vote IS NULL"
            if tables.execute(voted, (vote, comparison)).rowcount == 0:
                raise DataError("you have voted already; compare again")
        return {row["letter"]: (row["model"], answer_of(row)) for row in rows}

    def standings(self) -> dict[str, Standing]:
        """By model, the best first. A blind comparison counts once it was voted on: figures tell who is who."""
        with self._database.transaction() as tables:
            rows = tables.execute(
                "SELECT candidate.*, vote FROM candidate JOIN comparison ON comparison.id = comparison"
                " WHERE vote IS NOT NULL OR NOT blind"
            ).fetchall()
        found: dict[str, Standing] = defaultdict(Standing)
        for row in rows:
            standing, answer = found[row["model"]], answer_of(row)
            if row["vote"] == TIE:
                standing.ties += 1
            elif row["vote"] is not None:
                standing.wins += row["vote"] == row["letter"]
                standing.losses += row["vote"] != row["letter"]
            if answer.finish_reason not in ("stop", "length"):
                continue
            if answer.first_token_seconds is not None:
                standing.first_token_seconds.append(answer.first_token_seconds)
                standing.seconds.append(answer.seconds)
            if answer.tokens_per_second is not None:
                standing.tokens_per_second.append(answer.tokens_per_second)
        return dict(
            sorted(found.items(), key=lambda item: -1 if item[1].share is None else item[1].share, reverse=True)
        )
