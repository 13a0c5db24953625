"""What models are called on the page: always the same, whichever servers answer, for votes go by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from components.chat.storage.database import Database


class Labels:
    """A model's label is its id, with its server's name where one was given; it is kept, once the page has shown it.

    Of servers without a name the first one that has a model keeps its bare id; others show their address.
    """

    def __init__(self, database: Database | None = None) -> None:
        self._database = database
        self._kept: dict[tuple[str, str], str] = {}
        if database is not None:
            with database.transaction() as tables:
                rows = tables.execute("SELECT server, model, label FROM label").fetchall()
            self._kept = {(row["server"], row["model"]): row["label"] for row in rows}

    def of(self, found: Sequence[tuple[str, str]], *, nameless: set[str]) -> list[str]:
        """The labels of all (server, model) that are listed now."""
        times = Counter(model for server, model in found if server in nameless)
        for server, model in found:
            if server in nameless and (server, model) not in self._kept:
                alone = times[model] == 1 and model not in self._kept.values()
                self._keep(server, model, model if alone else f"{model} ({server})")
        return [self._kept.get(one) or f"{one[1]} ({one[0]})" for one in found]

    def _keep(self, server: str, model: str, label: str) -> None:
        self._kept[server, model] = label
        if self._database is not None:
            with self._database.transaction() as tables:
                tables.execute("INSERT OR REPLACE INTO label VALUES (?, ?, ?)", (server, model, label))
