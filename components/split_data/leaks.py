"""Texts that must not be trained on: benchmarks and prompts, found in rows by long runs of words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.errors import DataError
from components.split_data.config import LeaksConfig
from components.split_data.raw import RawRecord, encoding_of
from components.split_data.records import is_data_file, records_of
from components.split_data.words import Words, words_of
from components.storage.digests import sha256_of
from components.storage.local_files import local_file

# A shorter text ("Yes.") is found everywhere and gives nothing away.
MIN_WORDS = 4


@dataclass(frozen=True)
class LeakIndex:
    """Runs of words of the given texts, sorted, with the place of each; and the texts that are shorter than a run."""

    n_words: int
    runs: NDArray[np.uint64]
    run_places: NDArray[np.int64]
    short: dict[bytes, int]
    places: list[str]
    too_short: list[str]

    def find(self, words: Words, is_user: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """Each text of ``words`` that holds a leak, by position, and what it is, once a text.

        ``is_user`` marks the texts that a short text is looked for in: as an answer it gives nothing away.
        """
        found: dict[int, str] = {}
        if len(self.runs):
            long = words.lengths() >= self.n_words
            runs = words.without(~long).runs(self.n_words)
            at = np.minimum(np.searchsorted(self.runs, runs.hashes), len(self.runs) - 1)
            text = np.repeat(np.arange(len(runs)), runs.lengths())
            for hit in np.flatnonzero(self.runs[at] == runs.hashes):
                place = self.places[self.run_places[at[hit]]]
                found.setdefault(int(text[hit]), f"shares {self.n_words} words in a row with {place}")
        if self.short:
            for i, whole in enumerate(_wholes(words)):
                if is_user[i] and (short := self.short.get(whole)) is not None:
                    found.setdefault(i, f"says the same as {self.places[short]}")
        yield from found.items()


def build_index(config: LeaksConfig) -> LeakIndex:
    """Read the files that ``config`` names.

    Raises:
        DataError: a file is not there, holds no text, or changed since the recipe was resolved.
    """
    texts: list[str] = []
    places: list[str] = []
    for number, address in enumerate(config.files):
        revision = config.revisions[number] if config.revisions else None
        for place, text in _texts_of(address, revision):
            texts.append(text)
            places.append(place)
    words = words_of(texts)
    lengths = words.lengths()
    runs = words.without(lengths < config.ngram_words).runs(config.ngram_words)
    place_of_run = np.repeat(np.arange(len(runs)), runs.lengths())
    order = np.argsort(runs.hashes, kind="stable")
    is_short = (lengths >= MIN_WORDS) & (lengths < config.ngram_words)
    short = {whole: i for i, whole in enumerate(_wholes(words)) if is_short[i]}
    too_short = [
        f"{place}: {text.strip()}" for place, text, n in zip(places, texts, lengths, strict=True) if n < MIN_WORDS
    ]
    return LeakIndex(config.ngram_words, runs.hashes[order], place_of_run[order], short, places, too_short)


def _wholes(words: Words) -> Iterator[bytes]:
    """What two texts share when they have the same words in the same order."""
    for i in range(len(words)):
        yield words.hashes[words.starts[i] : words.starts[i + 1]].tobytes()


def _texts_of(address: str, revision: str | None) -> Sequence[tuple[str, str]]:
    """Each text of a file, with its place."""
    path = local_file(address, revision)
    if not path.is_file():
        raise DataError(f"{path}: no such file; mend split.leaks.files")
    if revision is not None and sha256_of(path) != revision:
        raise DataError(f"{path}: the file changed while the run was going on; run again to use the new content")
    if is_data_file(path.name):
        records = records_of(path, every_column=True)
        read = [(record.line, text) for record in records for text in _strings(_value(path, record))]
    elif path.suffix in (".yaml", ".yml"):
        read = list(enumerate(_strings(_yaml(path)), start=1))
    else:
        read = list(_lines_and_paragraphs(_plain_text(path)))
    if not read:
        raise DataError(f"{path}: holds no text; mend split.leaks.files")
    return [
        (f"{path.name}, {'text' if path.suffix in ('.yaml', '.yml') else 'line'} {line}", text) for line, text in read
    ]


def _value(path: Path, record: RawRecord) -> Any:
    try:
        return record.read()
    except ValueError as error:
        raise DataError(f"{path}: line {record.line}: {error}; mend it, or take it out of split.leaks.files") from error


def _lines_and_paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Each line, and each run of lines without an empty one between, which may be one text that is wrapped."""
    paragraph: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.strip():
            paragraph.append(line)
            yield number, line
        else:
            if len(paragraph) > 1:
                yield number - len(paragraph), "\n".join(paragraph)
            paragraph = []


def _strings(value: Any) -> Iterator[str]:
    """Every text in a record, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _yaml(path: Path) -> Any:
    try:
        return YAML(typ="safe").load(_plain_text(path))
    except YAMLError as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())})") from error


def _plain_text(path: Path) -> str:
    with path.open("rb") as file:
        encoding = encoding_of(file)
    try:
        return path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start + 1}); save the file as UTF-8") from error
