"""Process one batch of raw records: which can be used, their figures, and the hashes by which duplicates are found.

Batches are processed in processes of their own. What is large (rows and shingles) goes to files; what is small is
returned.
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
from components.split_data.config import SplitConfig
from components.split_data.decontamination import ContaminationIndex
from components.split_data.formats import messages_of
from components.split_data.near_duplicates import Bands, band_hashes_of
from components.split_data.ngrams import HashedTexts, hash_words, normalize
from components.split_data.outcomes import DroppedRow, excerpt_of, shorten
from components.split_data.quality import (
    Reason,
    repetition,
    repetition_problem,
    row_of_each_message,
    tokens_problem,
    turns_problem,
)
from components.split_data.raw import MAX_ROW_BYTES, RawRecord, too_long
from components.split_data.sources import Batch
from components.split_data.template_check import TemplateCheck
from components.split_data.turns import RowError, tools_of

MAX_REASON = 300  # characters


@dataclass(frozen=True)
class ProcessedBatch:
    """The usable rows of one batch, and what was dropped. Arrays, lists and files have one entry a usable row."""

    source: int
    file: str
    lines: NDArray[np.int64]
    dropped: list[DroppedRow]
    n_moved_system: int
    ids: list[str]
    keys: list[bytes]
    n_words: NDArray[np.int64]
    n_tokens: NDArray[np.int64] | None
    band_hashes: NDArray[np.uint64]  # (rows, bands)
    rows_path: Path
    shingles_path: Path  # (shingles of all rows,), uint32
    shingle_starts: NDArray[np.int64]  # (rows + 1,), row i has the shingles from starts[i] up to starts[i + 1]


@dataclass(frozen=True)
class BatchProcessor:
    """Processes batches by one config. It is sent to other processes."""

    config: SplitConfig
    index: ContaminationIndex
    bands: Bands
    folder: Path

    def process(self, number: int, batch: Batch) -> ProcessedBatch:
        """Check and hash every record of a batch; write the usable rows and their shingles as part ``number``."""
        lines, rows, dropped = _parse(batch)
        words = hash_words([message.content for row in rows for message in row.messages])
        roles = np.array([message.role for row in rows for message in row.messages], dtype="U9")
        quality, base = self.config.quality, self.config.base_model
        n_tokens = _count_tokens(rows, base) if quality.counts_tokens else None
        check = _template_check(base) if base else None
        reasons = self._reasons(rows, words, roles, n_tokens)
        if check is not None:
            _add_template_problems(reasons, rows, check)
        dropped += [
            DroppedRow(lines[i], kind, reason, excerpt_of(rows[i].messages)) for i, (kind, reason) in reasons.items()
        ]
        usable = np.array([i not in reasons for i in range(len(lines))], dtype=bool)
        kept = [row for i, row in enumerate(rows) if usable[i]]
        # A system prompt that all rows share makes none of them near-duplicates.
        texts = words.without(roles == "system").joined([len(row.messages) for row in rows]).without(~usable)
        band_hashes, shingles = band_hashes_of(texts.ngrams(self.config.duplicates.shingle_words), self.bands)
        rows_path, shingles_path = (self.folder / f"part-{number:06}{suffix}" for suffix in (".parquet", ".shingles"))
        write_rows(kept, str(rows_path))
        shingles.hashes.astype(np.uint32).tofile(shingles_path)
        return ProcessedBatch(
            source=batch.source,
            file=batch.file,
            lines=np.array(lines, dtype=np.int64)[usable],
            dropped=dropped,
            n_moved_system=sum(map(check.moves_system, kept)) if check else 0,
            ids=[row.id for row in kept],
            keys=[_duplicate_key(row) for row in kept],
            n_words=texts.lengths()[usable],
            n_tokens=None if n_tokens is None else n_tokens[usable],
            band_hashes=band_hashes[usable],
            rows_path=rows_path,
            shingles_path=shingles_path,
            shingle_starts=np.concatenate([[0], np.cumsum(shingles.lengths()[usable])]).astype(np.int64),
        )

    def _reasons(
        self, rows: Sequence[Row], words: HashedTexts, roles: NDArray[np.str_], n_tokens: NDArray[np.int64] | None
    ) -> dict[int, Reason]:
        """Why rows are dropped, by position; of several reasons the first."""
        quality = self.config.quality
        reasons = {i: problem for i, row in enumerate(rows) if (problem := turns_problem(row, quality)) is not None}
        row_of = row_of_each_message(rows)
        for at, found in self.index.find(words, roles == "user"):
            reasons.setdefault(int(row_of[at]), ("contaminated", found))
        shares = repetition(words)
        for at in np.flatnonzero(roles == "assistant").tolist():
            if (problem := repetition_problem(float(shares[at]), quality)) is not None:
                reasons.setdefault(int(row_of[at]), problem)
        for i, count in enumerate([] if n_tokens is None else n_tokens.tolist()):
            if (problem := tokens_problem(count, quality)) is not None:
                reasons.setdefault(i, problem)
        return reasons


def _parse(batch: Batch) -> tuple[list[int], list[Row], list[DroppedRow]]:
    """Lines and rows of the records that are conversations, and the others with their reasons."""
    lines: list[int] = []
    rows: list[Row] = []
    dropped: list[DroppedRow] = []
    for record in batch.records:
        try:
            row = _row(record, batch)
        except RowError as error:
            reason = shorten(str(error), MAX_REASON)
            dropped.append(DroppedRow(record.line, "cannot be used", reason, shorten(_raw_text(record))))
        else:
            lines.append(record.line)
            rows.append(row)
    return lines, rows, dropped


def _raw_text(record: RawRecord) -> str:
    if isinstance(record.value, bytes):
        return record.value[:400].decode(errors="replace")
    return "" if record.value is None else str(record.value)[:400]


def _row(record: RawRecord, batch: Batch) -> Row:
    try:
        value = record.read()
    except ValueError as error:
        raise RowError(str(error)) from error
    messages, tools = messages_of(value, batch.format), tools_of(value)
    row = Row(id=row_id(messages, tools), messages=messages, tools=tools)
    n_bytes = len(row.model_dump_json())
    if n_bytes > MAX_ROW_BYTES:
        raise RowError(too_long(n_bytes))
    return row


def _add_template_problems(reasons: dict[int, Reason], rows: Sequence[Row], check: TemplateCheck) -> None:
    # Rendering is slow: rows that are dropped anyway are left out.
    for i, row in enumerate(rows):
        if i not in reasons and (problem := check.problem(row)) is not None:
            reasons[i] = ("chat template", shorten(problem, MAX_REASON))


def _duplicate_key(row: Row) -> bytes:
    """The same for conversations that differ in case and white space alone."""
    digest = hashlib.blake2b(digest_size=16)
    for message in row.messages:
        digest.update(f"{message.role}\x1f{normalize(message.content)}{extra_fields_text(message)}\x1e".encode())
    digest.update(json.dumps(row.tools, sort_keys=True).encode())
    return digest.digest()


def _count_tokens(rows: Sequence[Row], base: BaseModelRef | None) -> NDArray[np.int64]:
    """Tokens of all messages of each row; what the chat template adds is not counted."""
    assert base is not None  # the recipe is resolved
    texts = [message.content for row in rows for message in row.messages]
    tokenizer = _template_check(base).tokenizer
    encoded: Any = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    counts = np.array([0, *(len(encoding) for encoding in encoded)]).cumsum()
    ends = np.array([0, *(len(row.messages) for row in rows)]).cumsum()
    return np.asarray(np.diff(counts[ends]), dtype=np.int64)


@cache
def _template_check(base: BaseModelRef) -> TemplateCheck:
    return TemplateCheck(base)
