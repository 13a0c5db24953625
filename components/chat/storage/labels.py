"""Labels of models: each stays the same, whichever servers answer, because votes are counted by label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from components.chat.storage.database import Database


class Labels:
    """A model's label is its id, followed by its server's name if one was given; a label once shown is stored.

    Of servers without a name, the first one that lists a model gets its bare id; others add their address.
    """

    def __init__(self, database: Database | None = None) -> None:
        self._database = database
        self._stored: dict[tuple[str, str], str] = {}
        if database is not None:
            with database.transaction() as tables:
                rows = tables.execute("SELECT server, model, label FROM label").fetchall()
            self._stored = {(row["server"], row["model"]): row["label"] for row in rows}

    def labels_of(self, found: Sequence[tuple[str, str]], *, nameless: set[str]) -> list[str]:
        """The labels of all (server, model) that are listed now."""
        times = Counter(model for server, model in found if server in nameless)
        for server, model in found:
            if server in nameless and (server, model) not in self._stored:
                alone = times[model] == 1 and model not in self._stored.values()
                self._store(server, model, model if alone else f"{model} ({server})")
        return [self._stored.get((server, model)) or f"{model} ({server})" for server, model in found]

    def _store(self, server: str, model: str, label: str) -> None:
        self._stored[server, model] = label
        if self._database is not None:
            with self._database.transaction() as tables:
                tables.execute("INSERT OR REPLACE INTO label VALUES (?, ?, ?)", (server, model, label))
