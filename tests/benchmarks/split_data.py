"""The split of made-up conversations: minutes, memory, and whether it finds what was planted.

    python tests/benchmarks/split_data.py [--rows 100000] [--family 0] [--against SECONDS]

Splits the rows in a process of its own, then looks for near-duplicates across the splits by an exact method that knows
nothing of MinHash. Prints a table; exits 1 where a line falls short. ``--against`` compares with the seconds of another
run: what a million rows may cost against a hundred thousand. ``--family`` adds rows that share a template.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.split_data.ngrams import hash_words
from components.split_data.outcomes import SPLITS
from tests.benchmarks.conversations import SHINGLE_WORDS, Planted, write_conversations

JACCARD = 0.8
HELD_OUT = 0.05
SPLIT = """
import sys
from components.split_data.config import SplitConfig
from components.split_data.split import SplitOutputs, split
if __name__ == "__main__":
    split(SplitConfig.model_validate_json(sys.argv[1]), SplitOutputs(*sys.argv[2:]))
"""


def measure(folder: Path, benchmark: Path) -> tuple[float, float]:
    """Split ``folder/rows.jsonl``; seconds, and the most memory of all processes together, in GB."""
    config = {
        "data": str(folder / "rows.jsonl"),
        "validation_fraction": HELD_OUT,
        "test_fraction": HELD_OUT,
        "duplicates": {"jaccard_threshold": JACCARD, "shingle_words": SHINGLE_WORDS},
        "decontamination": {"files": [str(benchmark)]},
    }
    script = folder / "split.py"
    script.write_text(SPLIT)
    outputs = [str(folder / name) for name in (*SPLITS, "report.html", "summary.json", "outcomes.jsonl")]
    started = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = psutil.Popen([sys.executable, str(script), json.dumps(config), *outputs], env=environment)
    most = 0
    while child.poll() is None:
        most = max(most, sum(map(_memory, [child, *child.children(recursive=True)])))
        time.sleep(0.05)
    if child.returncode:
        sys.exit("the split failed")
    return time.monotonic() - started, most / 1e9


def _memory(process: psutil.Process) -> int:
    """Bytes that a process alone holds; what several map is counted once for each."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def pairs_across(folder: Path) -> int:
    """Pairs of rows of different splits whose shingles are alike, found exactly.

    Rows with a Jaccard similarity of t share one of the first n - ceil(t n) + 1 of their sorted shingles (prefix
    filter), whatever the order is.
    """
    rows: list[np.ndarray] = []
    splits: list[int] = []
    for number, name in enumerate(SPLITS):
        path = folder / name
        for block in _blocks(path):
            ngrams = hash_words(block).ngrams(SHINGLE_WORDS)
            rows += [np.unique(ngrams.hashes[a:b]) for a, b in zip(ngrams.starts, ngrams.starts[1:], strict=False)]
            splits += [number] * len(block)
    prefixes = [row[: len(row) - int(np.ceil(JACCARD * len(row))) + 1] for row in rows]
    owner = np.repeat(np.arange(len(rows)), [len(prefix) for prefix in prefixes])
    hashes = np.concatenate(prefixes)
    order = np.argsort(hashes, kind="stable")
    hashes, owner = hashes[order], owner[order]
    candidates: set[tuple[int, int]] = set()
    edges = np.flatnonzero(np.diff(hashes)) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(hashes)]])
    for at in np.flatnonzero(ends - starts > 1):
        sharing = owner[starts[at] : ends[at]].tolist()
        candidates.update((a, b) for i, a in enumerate(sharing) for b in sharing[i + 1 :] if splits[a] != splits[b])
    return sum(_jaccard(rows[a], rows[b]) >= JACCARD for a, b in candidates)


def _blocks(path: Path) -> Iterator[list[str]]:
    """The words of the rows of a split, some rows at a time."""
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1000, columns=["messages"]):
        yield [" ".join(turn["content"] for turn in row["messages"]) for row in batch.to_pylist()]


def _jaccard(left: np.ndarray, right: np.ndarray) -> float:
    common = len(np.intersect1d(left, right, assume_unique=True))
    return common / (len(left) + len(right) - common)


def lines(folder: Path, planted: Planted, n_rows: int) -> list[tuple[str, str, str, bool]]:
    """What was found, what is promised, and whether it holds."""
    outcomes = {}
    with (folder / "outcomes.jsonl").open() as file:
        for text in file:
            row = json.loads(text)
            outcomes[row["line"]] = row
    near = {line: source for line, (source, jaccard) in planted.near.items() if jaccard >= JACCARD}
    found = sum(
        outcomes[line].get("group") is not None
        and (outcomes[source].get("group") or f"line {source}") == outcomes[line].get("group")
        for line, source in near.items()
    )
    touched = {*planted.near, *(source for source, _ in planted.near.values()), *planted.exact, *planted.exact.values()}
    grouped = sum(1 for line, row in outcomes.items() if line not in touched and row.get("group"))
    exact = sum(outcomes[line].get("kind") == "exact duplicate" for line in planted.exact)
    contaminated = sum(outcomes[line].get("kind") == "contaminated" for line in planted.contaminated)
    dropped_wrongly = sum(
        row["outcome"] == "dropped" and line not in planted.exact and line not in planted.contaminated
        for line, row in outcomes.items()
    )
    across = pairs_across(folder)
    return [
        ("planted near-duplicates found", f"{found} of {len(near)}", "99 %", found >= 0.99 * len(near)),
        ("unplanted rows in a group", f"{grouped} of {n_rows}", "at most 0.1 %", grouped <= 0.001 * n_rows),
        ("near-duplicate pairs across splits, exact search", str(across), "0", across == 0),
        ("planted exact duplicates dropped", f"{exact} of {len(planted.exact)}", "all", exact == len(planted.exact)),
        (
            "planted benchmark texts dropped",
            f"{contaminated} of {len(planted.contaminated)}",
            "all",
            contaminated == len(planted.contaminated),
        ),
        ("other rows dropped", str(dropped_wrongly), "0", dropped_wrongly == 0),
        ("records with an outcome", f"{len(outcomes)} of {n_rows}", "all", len(outcomes) == n_rows),
    ]


def main() -> None:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--family", type=int, default=0, help="rows that share a template, beside the others")
    parser.add_argument("--against", type=float, help="seconds of a run with a tenth of the rows")
    arguments = parser.parse_args()
    n_rows = arguments.rows + arguments.family + -(-arguments.family // 10)
    n_cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted = write_conversations(
            folder / "rows.jsonl", folder / "benchmark.txt", arguments.rows, n_family=arguments.family
        )
        megabytes = (folder / "rows.jsonl").stat().st_size / 1e6
        seconds, gigabytes = measure(folder, folder / "benchmark.txt")
        most_seconds = (60 if n_cores >= 4 else 120) if arguments.against is None else 12 * arguments.against
        most_memory = 2.0 if arguments.against is None else 4.0
        judged = [
            ("seconds", f"{seconds:.1f}", f"at most {most_seconds:.0f}", seconds <= most_seconds),
            ("memory, all processes", f"{gigabytes:.2f} GB", f"at most {most_memory:g} GB", gigabytes <= most_memory),
            *lines(folder, planted, n_rows),
        ]
    table = Table(title=f"Splitting {n_rows:,} conversations, {megabytes:.0f} MB, on {n_cores} cores")
    for heading in ("what", "seen", "promised", ""):
        table.add_column(heading, overflow="fold")
    for what, seen, promised, holds in judged:
        table.add_row(what, seen, promised, "" if holds else "SHORT")
    Console(width=120).print(table)
    sys.exit(0 if all(holds for *_, holds in judged) else 1)


if __name__ == "__main__":
    main()
