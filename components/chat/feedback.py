"""What users thought of answers, as data: liked answers to train on, disliked ones kept apart from them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from components.chat.command import DATABASE
from components.chat.storage.comparisons import NONE
from components.chat.storage.database import reading
from components.chat.storage.export import as_messages
from components.errors import DataError
from components.runtime.command_line import run_command

LIKED, PREFERENCES, DISLIKED = "liked.jsonl", "preferences.jsonl", "disliked.jsonl"
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Feedback:
    """Rows of the three files. ``left_out`` counts liked answers that are no example to learn from."""

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
    """Write what the chat's users liked as training data, and what they disliked as preference data apart from it.

    liked.jsonl is data for a recipe (``data: feedback/liked.jsonl``). preferences.jsonl has pairs of a better and a
    worse answer, disliked.jsonl what has no better one; neither is taken as training data.
    """
    path = data_dir / DATABASE
    if not path.is_file():
        raise DataError(f"{path}: no chat page has kept anything there; name its folder with --data-dir")
    with reading(path) as tables:
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
        typer.echo(f"left out: {found.left_out} liked answers that are unfinished, or stand behind a disliked answer")


def collect(tables: sqlite3.Connection) -> Feedback:
    """Everything that users have said about answers, of all users and conversations."""
    turns = {row["id"]: row for row in tables.execute("SELECT * FROM turn")}
    compared = tables.execute(
        "SELECT comparison.*, letter, content, finish_reason FROM comparison"
        " JOIN candidate ON comparison = comparison.id"
        " WHERE vote IS NOT NULL ORDER BY comparison.created, letter"
    ).fetchall()
    judged = [(row, _context(row, turns)) for row in turns.values() if row["liked"] is not None]
    pairs = _votes(compared)
    bad = {_key(messages, row["content"]) for row, messages in judged if not row["liked"]}
    bad |= {_key(pair["prompt"], pair["rejected"][0]["content"]) for pair in pairs if "chosen" not in pair}
    good = [(row, messages) for row, messages in judged if row["liked"]]
    # Training learns from every answer of a row.
    usable = [
        (row, messages) for row, messages in good
        if all(turn["finish_reason"] == "stop" and _key(_context(turn, turns), turn["content"]) not in bad
               for turn in _path(row, turns) if turn["role"] == "assistant")
    ]  # fmt: skip
    chosen: dict[str, str] = {json.dumps(messages): row["content"] for row, messages in usable}
    judgements = [_pair(messages, chosen.get(json.dumps(messages)), row["content"], row["note"])
                  for row, messages in judged if not row["liked"]]  # fmt: skip
    pairs = judgements + pairs
    return Feedback(
        liked=[{"messages": [*messages, _said("assistant", row["content"])]} for row, messages in usable],
        preferences=[pair for pair in pairs if "chosen" in pair],
        disliked=[pair for pair in pairs if "chosen" not in pair],
        left_out=len(good) - len(usable),
    )


def _path(row: sqlite3.Row, turns: Mapping[int, sqlite3.Row]) -> Iterator[sqlite3.Row]:
    """The turn and those before it, backwards."""
    at: sqlite3.Row | None = row
    while at is not None:
        yield at
        at = turns.get(at["parent"])


def _context(row: sqlite3.Row, turns: Mapping[int, sqlite3.Row]) -> Messages:
    """What the model was given before a turn, its system prompt included."""
    return as_messages(row["system"], [(turn["role"], turn["content"]) for turn in _path(row, turns)][:0:-1])


def _votes(compared: Iterable[sqlite3.Row]) -> list[dict[str, Any]]:
    """The answer that was voted for, before each other one."""
    by_comparison: dict[str, list[sqlite3.Row]] = {}
    for row in compared:
        by_comparison.setdefault(row["id"], []).append(row)
    pairs = []
    for rows in by_comparison.values():
        vote, first = rows[0]["vote"], rows[0]
        messages = [_said("user", first["prompt"])]
        if first["system"].strip():
            messages.insert(0, _said("system", first["system"]))
        won = next((row for row in rows if row["letter"] == vote), None)
        # An answer that was cut is no example, and no pair: its vote counts among the votes.
        if vote == NONE or (won is not None and won["content"] and won["finish_reason"] == "stop"):
            best = None if won is None else won["content"]
            pairs += [_pair(messages, best, row["content"], "") for row in rows
                      if row["letter"] != vote and row["content"] not in ("", best)]  # fmt: skip
    return pairs


def _pair(messages: Messages, chosen: str | None, rejected: str, note: str) -> dict[str, Any]:
    """TRL's form of a preference; without ``chosen`` where nothing better is known."""
    better = {} if chosen is None else {"chosen": [_said("assistant", chosen)]}
    return {
        "prompt": messages,
        **better,
        "rejected": [_said("assistant", rejected)],
        **({"note": note} if note else {}),
    }


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _key(messages: Messages, answer: str) -> str:
    return json.dumps([*messages, answer])


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    whole = path.with_suffix(".part")
    whole.write_text(text, encoding="utf-8")
    whole.replace(path)


if __name__ == "__main__":
    run_command(feedback)
