"""Made-up conversations with realistic lengths, and with known duplicates and contaminated rows among them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

# Lognormal with mean 350 and 95th percentile 1,000. A word counts as a token here: more text than tokens would be.
MU, SIGMA = 5.483, 0.866
LONGEST = 8_000
VOCABULARY = 30_000
SHINGLE_WORDS = 3
EXACT, NEAR, CONTAMINATED = 0.02, 0.03, 0.001  # shares of the rows
BENCHMARK_WORDS = 20


@dataclass
class Planted:
    """Line numbers, from 1; near-duplicates with their source and true Jaccard."""

    exact: dict[int, int] = field(default_factory=dict)
    near: dict[int, tuple[int, float]] = field(default_factory=dict)
    contaminated: set[int] = field(default_factory=set)


class Writer:
    """Draws words by a Zipf-like law, as text has them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        letters = random.Random(seed)
        alphabet = "etaoinshrdlucmfwypvbgkjqxz"
        self.words = np.array(
            ["".join(letters.choices(alphabet, k=letters.randint(2, 9))) for _ in range(VOCABULARY)], dtype=object
        )
        weights = 1 / np.arange(1, VOCABULARY + 1) ** 0.8
        self.cumulative = np.cumsum(weights / weights.sum())

    def draw(self, n: int) -> list[str]:
        """``n`` words."""
        return list(self.words[np.searchsorted(self.cumulative, self.rng.random(n)).clip(max=VOCABULARY - 1)])

    def conversation(self) -> list[list[str]]:
        """Turns of words; user and assistant in turn, the assistant's longer."""
        n_words = int(np.clip(self.rng.lognormal(MU, SIGMA), 12, LONGEST))
        n_turns = 1 + int(self.rng.random() < 0.3)
        shares = self.rng.dirichlet([2, 6] * n_turns)
        return [self.draw(max(3, round(share * n_words))) for share in shares]


def shingles(turns: list[list[str]]) -> set[tuple[str, ...]]:
    """The word n-grams of the whole conversation."""
    words = [word for turn in turns for word in turn]
    return {tuple(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1)}


def edited(turns: list[list[str]], writer: Writer, jaccard: float) -> list[list[str]]:
    """The conversation with some words replaced, so many that about ``jaccard`` of its shingles stay."""
    n_words = sum(map(len, turns))
    # k words of n replaced far from each other: 3k shingles gone on either side.
    n_edits = round(n_words * (1 - jaccard) / (1 + jaccard) / SHINGLE_WORDS)
    flat = [(i, j) for i, turn in enumerate(turns) for j in range(len(turn))]
    copy = [list(turn) for turn in turns]
    for at in writer.rng.choice(len(flat), size=max(1, n_edits), replace=False):
        i, j = flat[at]
        copy[i][j] = writer.draw(1)[0]
    return copy


def write_conversations(path: Path, benchmark_path: Path, n_rows: int, *, n_family: int = 0, seed: int = 0) -> Planted:
    """Write ``n_rows`` JSON lines, and the benchmark texts that some of them contain; return what was planted.

    ``n_family`` rows that share a template follow, and a twin of every tenth of them.
    """
    writer, planted = Writer(seed), Planted()
    benchmark = [writer.draw(BENCHMARK_WORDS) for _ in range(200)]
    benchmark_path.write_text("".join(" ".join(text) + "\n" for text in benchmark))
    recent: list[tuple[int, list[list[str]]]] = []
    with path.open("w") as file:
        for line in range(1, n_rows + 1):
            draw = writer.rng.random()
            if recent and draw < EXACT:
                planted.exact[line], turns = recent[writer.rng.integers(len(recent))]
                turns = [["  " + turn[0].upper(), *turn[1:]] for turn in turns]
            elif recent and draw < EXACT + NEAR:
                source, before = recent[writer.rng.integers(len(recent))]
                turns = edited(before, writer, 0.8 + 0.19 * writer.rng.random())
                own, other = shingles(turns), shingles(before)
                if turns == before:  # a word was replaced by itself
                    planted.exact[line] = source
                else:
                    planted.near[line] = (source, len(own & other) / len(own | other))
            else:
                turns = writer.conversation()
                if draw < EXACT + NEAR + CONTAMINATED:
                    planted.contaminated.add(line)
                    turns[-1][2:2] = benchmark[writer.rng.integers(len(benchmark))]
                else:
                    # Sources of copies lie anywhere before them, not only near.
                    recent.append((line, turns))
                    if len(recent) > 2_000:
                        recent.pop(int(writer.rng.integers(2_000)))
            _write(file, turns)
        _write_family(file, n_family, n_rows, writer, planted)
    return planted


def _write(file: IO[str], turns: list[list[str]]) -> None:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": " ".join(turn)} for i, turn in enumerate(turns)]
    file.write(json.dumps({"messages": messages}) + "\n")


def _write_family(file: IO[str], n_family: int, n_rows: int, writer: Writer, planted: Planted) -> None:
    """Rows of 100 words, 88 of which all share: their Jaccard is 0.78, and that of twins 0.85 to 0.98."""
    question, template = writer.draw(20), writer.draw(68)
    rows = [[question, [*template, *(f"own{i}x{j}" for j in range(12))]] for i in range(n_family)]
    for row in rows:
        _write(file, row)
    for number, source in enumerate(range(0, n_family, 10), start=1):
        n_new = 1 + number % 8
        answer = rows[source][1]
        twin = [question, [*answer[:-n_new], *(f"twin{number}x{j}" for j in range(n_new))]]
        _write(file, twin)
        own, other = shingles(twin), shingles(rows[source])
        planted.near[n_rows + n_family + number] = (n_rows + source + 1, len(own & other) / len(own | other))
