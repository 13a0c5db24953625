"""Comparisons: one prompt, the answers of several models, and the user's vote."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from components.chat.storage.completion import Completion
from components.chat.storage.database import Database
from components.errors import DataError

TIE, NONE_IS_GOOD = "tie", "none"


@dataclass
class Standing:
    """A model's votes by all users, and the seconds of all its compared answers."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    first_token_seconds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    tokens_per_second: list[float] = field(default_factory=list)

    @property
    def share(self) -> float | None:
        """Wins plus half of the ties, divided by votes; None before the first vote."""
        votes = self.wins + self.losses + self.ties
        return (self.wins + self.ties / 2) / votes if votes else None

    def median_of(self, name: str) -> float | None:
        """The median of one of the lists, or None if it is empty."""
        values = getattr(self, name)
        return median(values) if values else None


class Comparisons:
    """Comparisons belong to a user; everyone sees only the sums by model."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(
        self, user: str, comparison: str, prompt: str, system: str, answers: Mapping[str, tuple[str, Completion]],
        *, blind: bool,
    ) -> None:  # fmt: skip
        """Store the (model label, answer) of each letter under a new id."""
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

    def vote(self, user: str, comparison: str, vote: str) -> dict[str, tuple[str, Completion]]:
        """Store the best letter, ``tie`` or ``none``; returns the (model label, answer) of each letter.

        Raises:
            DataError: the user has no such comparison, has voted already, or it has no such letter.
        """
        with self._database.transaction() as tables:
            rows = tables.execute(
                "SELECT candidate.* FROM candidate JOIN comparison ON comparison.id = comparison"
                " WHERE comparison = ? AND user = ? ORDER BY letter",
                (comparison, user),
            ).fetchall()
            if vote not in (TIE, NONE_IS_GOOD, *(row["letter"] for row in rows)) or not rows:
                raise DataError("this comparison is not there any more; compare again")
            voted = "UPDATE comparison SET vote = ? WHERE id = ? AND vote IS NULL"
            if tables.execute(voted, (vote, comparison)).rowcount == 0:
                raise DataError("you have voted already; compare again")
        return {row["letter"]: (row["model"], Completion.from_row(row)) for row in rows}

    def standings(self) -> dict[str, Standing]:
        """By model label, best first. A blind comparison counts once it was voted on, for figures identify models."""
        with self._database.transaction() as tables:
            rows = tables.execute(
                "SELECT candidate.*, vote FROM candidate JOIN comparison ON comparison.id = comparison"
                " WHERE vote IS NOT NULL OR NOT blind"
            ).fetchall()
        found: dict[str, Standing] = defaultdict(Standing)
        for row in rows:
            standing, completion = found[row["model"]], Completion.from_row(row)
            if row["vote"] == TIE:
                standing.ties += 1
            elif row["vote"] is not None:
                standing.wins += row["vote"] == row["letter"]
                standing.losses += row["vote"] != row["letter"]
            if completion.finish_reason not in ("stop", "length"):
                continue
            if completion.first_token_seconds is not None:
                standing.first_token_seconds.append(completion.first_token_seconds)
                standing.seconds.append(completion.seconds)
            if completion.tokens_per_second is not None:
                standing.tokens_per_second.append(completion.tokens_per_second)
        return dict(
            sorted(found.items(), key=lambda item: -1 if item[1].share is None else item[1].share, reverse=True)
        )
