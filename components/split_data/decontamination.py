"""Find texts that must not be trained on, such as benchmarks and prompts, in rows by the n-grams that they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.split_data.config import DecontaminationConfig
from components.split_data.decontamination_files import texts_of
from components.split_data.ngrams import HashedTexts, hash_words

# A shorter text ("Yes.") is found everywhere and gives nothing away.
MIN_WORDS = 4


@dataclass(frozen=True)
class ContaminationIndex:
    """The texts that no row may hold: n-grams of the long ones, all words of those shorter than an n-gram."""

    ngram_words: int
    ngrams: NDArray[np.uint64]  # (n-grams,), hashes, sorted
    text_of: NDArray[np.int64]  # (n-grams,), the text that each is from, an index into locations
    short: dict[bytes, int]  # the word hashes of a short text: its index into locations
    locations: list[str]  # file and line of each text
    too_short: list[str]  # location and text of those with fewer than MIN_WORDS words

    def find(self, words: HashedTexts, is_user: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """The position of each contaminated text of ``words``, with the reason, once a text.

        ``is_user`` is the mask of the texts in which short texts are looked for: an answer may equal one by chance.
        """
        found: dict[int, str] = {}
        if len(self.ngrams):
            is_long = words.lengths() >= self.ngram_words
            ngrams = words.without(~is_long).ngrams(self.ngram_words)
            at = np.minimum(np.searchsorted(self.ngrams, ngrams.hashes), len(self.ngrams) - 1)
            text = np.repeat(np.arange(len(ngrams)), ngrams.lengths())
            for hit in np.flatnonzero(self.ngrams[at] == ngrams.hashes):
                location = self.locations[self.text_of[at[hit]]]
                found.setdefault(int(text[hit]), f"shares {self.ngram_words} words in a row with {location}")
        if self.short:
            for i in np.flatnonzero(is_user).tolist():
                if (short := self.short.get(words.text(i).tobytes())) is not None:
                    found.setdefault(i, f"is the same text as {self.locations[short]}")
        yield from found.items()


def build_index(config: DecontaminationConfig) -> ContaminationIndex:
    """Index the texts of the files that ``config`` names.

    Raises:
        DataError: a file is not there, holds no text, or changed since the recipe was resolved.
    """
    texts: list[str] = []
    locations: list[str] = []
    for number, address in enumerate(config.files):
        revision = config.revisions[number] if config.revisions else None
        for location, text in texts_of(address, revision):
            texts.append(text)
            locations.append(location)
    words = hash_words(texts)
    lengths = words.lengths()
    ngrams = words.without(lengths < config.ngram_words).ngrams(config.ngram_words)
    text_of = np.repeat(np.arange(len(ngrams)), ngrams.lengths())
    order = np.argsort(ngrams.hashes, kind="stable")
    is_short = (lengths >= MIN_WORDS) & (lengths < config.ngram_words)
    short = {words.text(i).tobytes(): i for i in np.flatnonzero(is_short).tolist()}
    too_short = [
        f"{location}: {text.strip()}"
        for location, text, n in zip(locations, texts, lengths, strict=True)
        if n < MIN_WORDS
    ]
    return ContaminationIndex(config.ngram_words, ngrams.hashes[order], text_of[order], short, locations, too_short)
