"""Split a chat data set into train, validation and test rows, and account for every record."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from components.contracts import Row
from components.errors import DataError
from components.rows import row_id, write_rows
from components.split_data.accounts import SPLITS, Account, Outcome
from components.split_data.config import SplitConfig
from components.split_data.forms import RowProblem, messages_of
from components.split_data.report import write_report
from components.split_data.sources import RawRecord, read_records

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """The rows of each split, and one account a record, in the order of the data."""

    rows: dict[Outcome, list[Row]]
    accounts: list[Account]

    def counts(self) -> dict[str, int]:
        """Records read, and how many had each outcome; the outcomes add up to the records read."""
        outcomes = Counter(account.outcome for account in self.accounts)
        return {"read": len(self.accounts), **{name: outcomes[name] for name in (*SPLITS, "unused", "dropped")}}


def split_records(records: Sequence[RawRecord], config: SplitConfig) -> Split:
    """Drop what cannot be used and what was seen before, then deal the rest out by ``config``.

    A row's place follows from its content and the seed alone, so rows appended to the data move few others,
    and no conversation can be in two splits.

    Raises:
        DataError: no usable row, or fewer than the splits ask for.
    """
    rows: dict[str, Row] = {}
    lines: dict[str, int] = {}
    dropped: list[Account] = []
    for record in records:
        try:
            if record.problem is not None:
                raise RowProblem(record.problem)
            messages = messages_of(record.value)
            identity = row_id(messages)
            if identity in rows:
                raise RowProblem(f"the same conversation as line {lines[identity]}")
        except RowProblem as problem:
            dropped.append(Account(record.line, "dropped", str(problem)))
            continue
        rows[identity] = Row(id=identity, messages=messages)
        lines[identity] = record.line
    _require_usable(len(records), rows, dropped, config)
    dealt = _deal(sorted(rows, key=lambda identity: _draw(identity, config.seed)), config)
    kept = [Account(lines[identity], outcome, id=identity) for outcome, ids in dealt.items() for identity in ids]
    accounts = sorted([*kept, *dropped], key=lambda account: account.line)
    return Split({name: [rows[identity] for identity in dealt[name]] for name in SPLITS}, accounts)


def split(
    config: SplitConfig, train_path: str, validation_path: str, test_path: str, report_path: str, accounts_path: str
) -> dict[str, int]:
    """Write the three Parquet files, the HTML report and the account of every record (JSON lines); give the counts.

    Raises:
        DataError: as ``read_records`` and ``split_records``.
    """
    result = split_records(list(read_records(config)), config)
    for name, path in zip(SPLITS, (train_path, validation_path, test_path), strict=True):
        write_rows(result.rows[name], path)
    lines = [json.dumps(asdict(account), ensure_ascii=False) for account in result.accounts]
    Path(accounts_path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts = result.counts()
    write_report(report_path, config, counts, [account for account in result.accounts if account.outcome == "dropped"])
    log.info(
        "read %(read)d rows: train %(train)d, validation %(validation)d, test %(test)d, "
        "unused %(unused)d, dropped %(dropped)d",
        counts,
    )
    return counts


def _draw(identity: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{identity}".encode()).hexdigest()


def _deal(identities: list[str], config: SplitConfig) -> dict[Outcome, list[str]]:
    validation_end = config.validation_rows
    test_end = validation_end + config.test_rows
    train_end = len(identities) if config.train_rows is None else test_end + config.train_rows
    return {
        "validation": identities[:validation_end],
        "test": identities[validation_end:test_end],
        "train": identities[test_end:train_end],
        "unused": identities[train_end:],
    }


def _require_usable(n_read: int, rows: dict[str, Row], dropped: list[Account], config: SplitConfig) -> None:
    if n_read == 0:
        raise DataError(f"{config.data}: holds no rows; it must hold at least one conversation")
    if not rows:
        first = dropped[0]
        raise DataError(
            f"{config.data}: none of its {n_read} rows can be used; the first, line {first.line}: {first.reason}; "
            "each row must be one conversation that ends with the assistant"
        )
    held_out = config.validation_rows + config.test_rows
    wanted = held_out + (config.train_rows or 1)
    if len(rows) < wanted:
        asked = "at least 1" if config.train_rows is None else str(config.train_rows)
        raise DataError(
            f"{config.data}: the split asks for {wanted} rows (train {asked}, validation {config.validation_rows}, "
            f"test {config.test_rows}), but only {len(rows)} of {n_read} rows can be used; ask for fewer or add data"
        )
