"""Split chat data into train, validation and test rows, and account for every record."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from components.artifacts.rows import RowWriter
from components.split_data.accounts import OUTCOMES, SPLITS
from components.split_data.config import SplitConfig
from components.split_data.examine import Examiner
from components.split_data.fates import Fates, bound_perplexity, deal_out, drop_equal, find_near
from components.split_data.leaks import LeakIndex, build_index
from components.split_data.near_duplicates import bands_for
from components.split_data.report import write_page
from components.split_data.sources import Batch, read_batches
from components.split_data.summary import summary_of
from components.split_data.survey import require_usable, survey

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """The paths of what a split writes."""

    train: str
    validation: str
    test: str
    report: str
    summary: str
    accounts: str


def split(config: SplitConfig, outputs: Outputs) -> dict[str, int]:
    """Write three Parquet files, the report as HTML and JSON, and the accounts (JSON lines); give the counts.

    No row is in two splits, nor are two near-duplicates.

    Raises:
        DataError: no usable row, fewer than the splits ask for, or data that cannot be read.
        StoreError: a bucket refuses.
    """
    counts = split_batches(config, read_batches(config.all_sources), outputs)
    log.info(
        "read %(read)d rows: train %(train)d, validation %(validation)d, test %(test)d, "
        "unused %(unused)d, dropped %(dropped)d",
        counts,
    )
    return counts


def split_batches(config: SplitConfig, batches: Iterable[Batch], outputs: Outputs) -> dict[str, int]:
    """As ``split``, of batches that were read elsewhere."""
    with tempfile.TemporaryDirectory(prefix="lorry-split-") as folder:
        leaks = build_index(config.leaks)
        fates = _dealt(config, batches, leaks, Path(folder))
        _write_rows(fates, outputs)
        counts = _write_accounts(fates, outputs.accounts)
        summary = summary_of(fates, config, counts, leaks)
    Path(outputs.summary).write_text(summary.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_page(outputs.report, summary)
    return counts


def rehearse(config: SplitConfig) -> None:
    """Split, and write nothing: what ``split`` would refuse is refused.

    Raises:
        DataError: see ``split``.
    """
    with tempfile.TemporaryDirectory(prefix="lorry-split-") as folder:
        _dealt(config, read_batches(config.all_sources), build_index(config.leaks), Path(folder))


def _dealt(config: SplitConfig, batches: Iterable[Batch], leaks: LeakIndex, folder: Path) -> Fates:
    """What becomes of every record; ``folder`` holds the rows meanwhile."""
    data = " + ".join(source.data for source in config.all_sources)
    found = survey(batches, Examiner(config, leaks, bands_for(config.duplicates.jaccard_threshold), folder))
    require_usable(found, data)
    if found.n_moved_system:
        log.info(
            "the chat template has no place for a system message: of %d rows its text begins the first user turn",
            found.n_moved_system,
        )
    fates = Fates(found)
    drop_equal(fates)
    find_near(fates, config)
    bound_perplexity(fates, config)
    deal_out(fates, config, data)
    return fates


def _write_rows(fates: Fates, outputs: Outputs) -> None:
    """The rows of each split, in the order of the data."""
    paths = [getattr(outputs, name) for name in SPLITS]
    with RowWriter(paths[0]) as train, RowWriter(paths[1]) as validation, RowWriter(paths[2]) as test:
        for part, first in zip(fates.found.parts, fates.found.first_rows, strict=False):
            own = fates.outcome[first : first + len(part.ids)]
            for name, writer in zip(SPLITS, (train, validation, test), strict=True):
                writer.copy(str(part.rows_path), own == OUTCOMES.index(name))


def _write_accounts(fates: Fates, path: str) -> dict[str, int]:
    """One JSON line a record; give the counts of each outcome, which add up to the records read."""
    outcomes: Counter[str] = Counter()
    with open(path, "w", encoding="utf-8") as file:
        for account in fates.accounts():
            outcomes[account.outcome] += 1
            told = {key: value for key, value in asdict(account).items() if value != ""}
            file.write(json.dumps(told, ensure_ascii=False) + "\n")
    return {"read": outcomes.total(), **{name: outcomes[name] for name in OUTCOMES}}
