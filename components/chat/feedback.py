"""``lorry feedback``: users' opinions of answers as training data and preference data."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from components.chat.storage.comparisons import NONE_IS_GOOD
from components.chat.storage.database import DATABASE_NAME, open_read_only
from components.chat.storage.export import as_messages
from components.errors import DataError
from components.runtime.command_line import run_command

LIKED, PREFERENCES, DISLIKED = "liked.jsonl", "preferences.jsonl", "disliked.jsonl"
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Feedback:
    """Rows of the three files. ``left_out`` counts liked answers that cannot be training examples."""

    liked: list[dict[str, Any]]
    preferences: list[dict[str, Any]]
    disliked: list[dict[str, Any]]
    left_out: int


def feedback(
    data_dir: Annotated[
        Path, typer.Option(envvar="LORRY_CHAT_DATA_DIR", help="folder of the chat page: its --data-dir")
    ] = Path(".lorry/chat"),
    out: Annotated[Path, typer.Option(help="folder for the files")] = Path("feedback"),
) -> None:
    """Write the answers that users of the chat page liked as training data, and those they disliked apart from it.

    liked.jsonl is data for a recipe (``data: feedback/liked.jsonl``). preferences.jsonl has pairs of a better and a
    worse answer, disliked.jsonl the answers without a better one; neither is accepted as training data.
    """
    path = data_dir / DATABASE_NAME
    if not path.is_file():
        raise DataError(f"{path}: no chat page has stored anything there; name its folder with --data-dir")
    with open_read_only(path) as tables:
        found = collect(tables)
    if not (found.liked or found.preferences or found.disliked):
        raise DataError(
            f"{path}: no example to learn from yet: nobody has liked or disliked an answer, or voted between two that "
            "differ"
            + (f"; {found.left_out} liked answers are unfinished or were disliked too" if found.left_out else "")
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in ((LIKED, found.liked), (PREFERENCES, found.preferences), (DISLIKED, found.disliked)):
        _write(out / name, rows)
        typer.echo(f"{out / name}: {len(rows)} rows")
    if found.left_out:
        typer.echo(f"left out: {found.left_out} liked answers that are unfinished, or come after a disliked answer")


def collect(tables: sqlite3.Connection) -> Feedback:
    """All opinions and votes, of all users and conversations."""
    turns = {row["id"]: row for row in tables.execute("SELECT * FROM turn")}
    compared = tables.execute(
        "SELECT comparison.*, letter, content, finish_reason FROM comparison"
        " JOIN candidate ON comparison = comparison.id"
        " WHERE vote IS NOT NULL ORDER BY comparison.created, letter"
    ).fetchall()
    rated = [(row, _context(row, turns)) for row in turns.values() if row["liked"] is not None]
    pairs = _votes(compared)
    bad = {_key(messages, row["content"]) for row, messages in rated if not row["liked"]}
    bad |= {_key(pair["prompt"], pair["rejected"][0]["content"]) for pair in pairs if "chosen" not in pair}
    good = [(row, messages) for row, messages in rated if row["liked"]]
    # A row trains the model on every answer in it, so each of them must be complete and not disliked.
    usable = [
        (row, messages) for row, messages in good
        if all(turn["finish_reason"] == "stop" and _key(_context(turn, turns), turn["content"]) not in bad
               for turn in _path(row, turns) if turn["role"] == "assistant")
    ]  # fmt: skip
    chosen: dict[str, str] = {json.dumps(messages): row["content"] for row, messages in usable}
    disliked = [_pair(messages, chosen.get(json.dumps(messages)), row["content"], row["note"])
                for row, messages in rated if not row["liked"]]  # fmt: skip
    pairs = disliked + pairs
    return Feedback(
        liked=[{"messages": [*messages, _message("assistant", row["content"])]} for row, messages in usable],
        preferences=[pair for pair in pairs if "chosen" in pair],
        disliked=[pair for pair in pairs if "chosen" not in pair],
        left_out=len(good) - len(usable),
    )


def _path(row: sqlite3.Row, turns: Mapping[int, sqlite3.Row]) -> Iterator[sqlite3.Row]:
    """The turn and those before it, from last to first."""
    turn: sqlite3.Row | None = row
    while turn is not None:
        yield turn
        turn = turns.get(turn["parent"])


def _context(row: sqlite3.Row, turns: Mapping[int, sqlite3.Row]) -> Messages:
    """The messages that the model was sent for a turn, with the system prompt."""
    return as_messages(row["system"], [(turn["role"], turn["content"]) for turn in _path(row, turns)][:0:-1])


def _votes(compared: Iterable[sqlite3.Row]) -> list[dict[str, Any]]:
    """The preferences of each vote: the best answer against each other one."""
    by_comparison: dict[str, list[sqlite3.Row]] = {}
    for row in compared:
        by_comparison.setdefault(row["id"], []).append(row)
    pairs = []
    for rows in by_comparison.values():
        vote, first = rows[0]["vote"], rows[0]
        messages = [_message("user", first["prompt"])]
        if first["system"].strip():
            messages.insert(0, _message("system", first["system"]))
        won = next((row for row in rows if row["letter"] == vote), None)
        # An answer that was cut off is no training example; its vote counts only in the standings.
        if vote == NONE_IS_GOOD or (won is not None and won["content"] and won["finish_reason"] == "stop"):
            best = None if won is None else won["content"]
            pairs += [_pair(messages, best, row["content"], "") for row in rows
                      if row["letter"] != vote and row["content"] not in ("", best)]  # fmt: skip
    return pairs


def _pair(messages: Messages, chosen: str | None, rejected: str, note: str) -> dict[str, Any]:
    """A preference in TRL's form; without ``chosen`` if no better answer is known."""
    better = {} if chosen is None else {"chosen": [_message("assistant", chosen)]}
    return {
        "prompt": messages,
        **better,
        "rejected": [_message("assistant", rejected)],
        **({"note": note} if note else {}),
    }


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _key(messages: Messages, answer: str) -> str:
    return json.dumps([*messages, answer])


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    run_command(feedback)
