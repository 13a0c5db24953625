"""One batch of raw records at a time: which can be used, what they are like, and the marks that others are found by.

Batches are examined in processes of their own. What is large (words and shingles) goes to files; what is small comes
back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.artifacts.contracts import BaseModelRef, Row
from components.artifacts.rows import extra_fields_text, row_id, write_rows
from components.split_data.accounts import Dropped, excerpt_of, shortened
from components.split_data.config import SplitConfig
from components.split_data.forms import messages_of
from components.split_data.leaks import LeakIndex
from components.split_data.near_duplicates import Bands, marks_of
from components.split_data.raw import MAX_ROW_BYTES, RawRecord, too_long
from components.split_data.rendering import Rendering
from components.split_data.sources import Batch
from components.split_data.turns import RowProblem, tools_of
from components.split_data.words import Words, normal, words_of

REPEATED_RUN_WORDS = 3
# A short answer repeats itself without harm: "Yes, yes, yes."
MIN_RUNS_TO_REPEAT = 30


@dataclass(frozen=True)
class Examined:
    """What is known of one batch. The arrays have one entry a usable row; so have the files."""

    source: int
    file: str
    lines: NDArray[np.int64]
    dropped: list[Dropped]
    n_moved_system: int
    ids: list[str]
    keys: list[bytes]
    n_words: NDArray[np.int64]
    n_tokens: NDArray[np.int64] | None
    marks: NDArray[np.uint64]
    rows_path: Path
    shingles_path: Path
    shingle_starts: NDArray[np.int64]


@dataclass(frozen=True)
class Examiner:
    """Examines batches by one config. It is sent to other processes."""

    config: SplitConfig
    leaks: LeakIndex
    bands: Bands
    folder: Path

    def examine(self, number: int, batch: Batch) -> Examined:
        """Look at every record of a batch; write the usable rows as part ``number``."""
        dropped: list[Dropped] = []
        lines, conversations = _read(batch, dropped)
        messages = [message for conversation in conversations for message in conversation.messages]
        words = words_of([message.content for message in messages])
        roles = np.array([message.role for message in messages], dtype="U9")
        reasons = self._reasons(conversations, words, roles)
        n_tokens = _count_tokens(conversations, self.config.base_model) if self.config.quality.counts_tokens else None
        if n_tokens is not None:
            self._bound_tokens(n_tokens, reasons)
        rendering = _rendering(self.config.base_model) if self.config.base_model else None
        if rendering is not None:
            for i, conversation in enumerate(conversations):
                if i not in reasons and (refusal := rendering.refusal(conversation)) is not None:
                    reasons[i] = ("chat template", shortened(refusal, 300))
        for i, (kind, reason) in reasons.items():
            dropped.append(Dropped(lines[i], kind, reason, excerpt_of(conversations[i].messages)))
        good = np.array([i not in reasons for i in range(len(lines))], dtype=bool)
        kept = [conversation for conversation, keep in zip(conversations, good, strict=True) if keep]
        said = (
            words.without(roles == "system")
            .joined([len(conversation.messages) for conversation in conversations])
            .without(~good)
        )
        marks, shingles = marks_of(said.runs(self.config.duplicates.shingle_words), self.bands)
        rows_path, shingles_path = (self.folder / f"part-{number:06}{kind}" for kind in (".parquet", ".shingles"))
        write_rows(kept, str(rows_path))
        shingles.hashes.astype(np.uint32).tofile(shingles_path)
        starts = np.concatenate([[0], np.cumsum(shingles.lengths()[good])]).astype(np.int64)
        return Examined(
            source=batch.source,
            file=batch.file,
            lines=np.array(lines, dtype=np.int64)[good],
            dropped=dropped,
            n_moved_system=sum(map(rendering.moves_system, kept)) if rendering else 0,
            ids=[row.id for row in kept],
            keys=[_normal_key(row) for row in kept],
            n_words=said.lengths()[good],
            n_tokens=None if n_tokens is None else n_tokens[good],
            marks=marks[good],
            rows_path=rows_path,
            shingles_path=shingles_path,
            shingle_starts=starts,
        )

    def _reasons(
        self, conversations: Sequence[Row], words: Words, roles: NDArray[np.str_]
    ) -> dict[int, tuple[str, str]]:
        """Why rows are dropped, by their position."""
        quality = self.config.quality
        reasons: dict[int, tuple[str, str]] = {}
        for i, row in enumerate(conversations):
            n_turns = sum(message.role == "assistant" for message in row.messages)
            if quality.min_turns is not None and n_turns < quality.min_turns:
                reasons[i] = ("too few turns", f"{n_turns} answers, fewer than min_turns {quality.min_turns}")
            elif quality.max_turns is not None and n_turns > quality.max_turns:
                reasons[i] = ("too many turns", f"{n_turns} answers, more than max_turns {quality.max_turns}")
        row_of = np.repeat(np.arange(len(conversations)), [len(row.messages) for row in conversations])
        for at, found in self.leaks.find(words, roles == "user"):
            reasons.setdefault(int(row_of[at]), ("leak", found))
        repetition = _repetition(words)
        for at in np.flatnonzero((repetition > quality.max_repetition) & (roles == "assistant")).tolist():
            share = f"{100 * repetition[at]:.0f} % of an answer repeats itself"
            limit = f"more than max_repetition {quality.max_repetition}"
            reasons.setdefault(int(row_of[at]), ("repeated text", f"{share}, {limit}"))
        return reasons

    def _bound_tokens(self, n_tokens: NDArray[np.int64], reasons: dict[int, tuple[str, str]]) -> None:
        low, high = self.config.quality.min_tokens, self.config.quality.max_tokens
        for i, count in enumerate(n_tokens.tolist()):
            if low is not None and count < low:
                reasons.setdefault(i, ("too short", f"{count} tokens, fewer than min_tokens {low}"))
            elif high is not None and count > high:
                reasons.setdefault(i, ("too long", f"{count} tokens, more than max_tokens {high}"))


def _read(batch: Batch, dropped: list[Dropped]) -> tuple[list[int], list[Row]]:
    lines, conversations = [], []
    for record in batch.records:
        try:
            row = _row(record, batch)
        except RowProblem as problem:
            dropped.append(
                Dropped(record.line, "cannot be used", shortened(str(problem), 300), shortened(_raw_text(record)))
            )
            continue
        lines.append(record.line)
        conversations.append(row)
    return lines, conversations


def _raw_text(record: RawRecord) -> str:
    if isinstance(record.value, bytes):
        return record.value[:400].decode(errors="replace")
    return "" if record.value is None else str(record.value)[:400]


def _row(record: RawRecord, batch: Batch) -> Row:
    try:
        value = record.read()
    except ValueError as error:
        raise RowProblem(str(error)) from error
    messages, tools = messages_of(value, batch.form), tools_of(value)
    row = Row(id=row_id(messages, tools), messages=messages, tools=tools)
    n_bytes = len(row.model_dump_json())
    if n_bytes > MAX_ROW_BYTES:
        raise RowProblem(too_long(n_bytes))
    return row


def _repetition(words: Words) -> NDArray[np.float64]:
    """For each text, the share of its runs of words that came before in it; 0 for a short text."""
    runs = words.runs(REPEATED_RUN_WORDS)
    shares = np.zeros(len(runs))
    for i in np.flatnonzero(runs.lengths() >= MIN_RUNS_TO_REPEAT):
        own = runs.hashes[runs.starts[i] : runs.starts[i + 1]]
        shares[i] = 1 - len(np.unique(own)) / len(own)
    return shares


def _normal_key(row: Row) -> bytes:
    """The same for conversations that differ in case and white space alone."""
    digest = hashlib.blake2b(digest_size=16)
    for message in row.messages:
        digest.update(f"{message.role}\x1f{normal(message.content)}{extra_fields_text(message)}\x1e".encode())
    digest.update(json.dumps(row.tools, sort_keys=True).encode())
    return digest.digest()


def _count_tokens(conversations: Sequence[Row], base: BaseModelRef | None) -> NDArray[np.int64]:
    """Tokens of all messages of each row; what the chat template adds is not counted."""
    assert base is not None  # the recipe is resolved
    texts = [message.content for conversation in conversations for message in conversation.messages]
    encoded: Any = _rendering(base).tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    counts = np.array([0, *(len(encoding) for encoding in encoded)]).cumsum()
    ends = np.array([0, *(len(conversation.messages) for conversation in conversations)]).cumsum()
    return np.asarray(np.diff(counts[ends]), dtype=np.int64)


@cache
def _rendering(base: BaseModelRef) -> Rendering:
    return Rendering(base)
