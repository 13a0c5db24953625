"""Texts as sequences of word hashes, and each n-gram (shingle) of a text as one hash."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# Scripts without spaces between words: each of their characters counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Signs count too: "3 + 4" and "3 - 4" are not the same.
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")
# 2^64 divided by the golden ratio, as in Fibonacci hashing.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class HashedTexts:
    """Several texts, each a sequence of hashes (of words, or of n-grams), one after the other.

    Text i is ``hashes[starts[i]:starts[i + 1]]``; ``hashes`` is (words of all texts,), ``starts`` (texts + 1,).
    """

    hashes: Hashes
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self) -> NDArray[np.int64]:
        """The number of hashes of each text, (texts,)."""
        return np.diff(self.starts)

    def text(self, at: int) -> Hashes:
        """The hashes of one text."""
        return self.hashes[self.starts[at] : self.starts[at + 1]]

    def ngrams(self, n: int) -> HashedTexts:
        """Each n-gram of each text as one hash; a text with fewer than ``n`` words is one n-gram."""
        lengths = self.lengths()
        mixed = np.zeros_like(self.hashes)
        for offset in range(n):
            # A word past the end of its text counts as 0.
            shifted = np.zeros_like(self.hashes)
            shifted[: max(len(self.hashes) - offset, 0)] = self.hashes[offset:]
            shifted[self._n_left() <= offset] = 0
            mixed = _scramble(mixed + shifted)
        n_ngrams = np.where(lengths > 0, np.maximum(lengths - n + 1, 1), 0)
        starts = np.concatenate([[0], np.cumsum(n_ngrams)])
        kept = np.arange(len(self.hashes)) - np.repeat(self.starts[:-1], lengths) < np.repeat(n_ngrams, lengths)
        return HashedTexts(mixed[kept], starts)

    def _n_left(self) -> NDArray[np.int64]:
        """For each word, how many words its text has from there on."""
        return np.repeat(self.starts[1:], self.lengths()) - np.arange(len(self.hashes))

    def joined(self, n_texts: Sequence[int]) -> HashedTexts:
        """The same hashes as fewer texts: the first ``n_texts[0]`` texts become one, and so on."""
        return HashedTexts(self.hashes, self.starts[np.concatenate([[0], np.cumsum(n_texts)]).astype(np.int64)])

    def without(self, emptied: NDArray[np.bool_]) -> HashedTexts:
        """The same texts, those of the mask ``emptied`` without their hashes."""
        lengths = self.lengths()
        kept = np.repeat(~emptied, lengths)
        return HashedTexts(self.hashes[kept], np.concatenate([[0], np.cumsum(np.where(emptied, 0, lengths))]))


def hash_words(texts: Sequence[str]) -> HashedTexts:
    """Hash the words of ``texts``; case and Unicode's compatibility forms do not count."""
    import rensa

    words = [_WORD.findall(unicodedata.normalize("NFKC", text).casefold()) for text in texts]
    hashes = [np.asarray(row, dtype=np.uint64) for row in rensa.RMinHash.hash_token_sets(words)]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in hashes])]).astype(np.int64)
    return HashedTexts(np.concatenate([np.empty(0, dtype=np.uint64), *hashes]), starts)


def normalize(text: str) -> str:
    """``text`` in one spelling: Unicode's compatibility forms, case and white space do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _scramble(values: Hashes) -> Hashes:
    """Spread ``values`` over all 64 bits, so that the order of words counts."""
    mixed = (values ^ (values >> np.uint64(31))) * _MULTIPLIER
    return mixed ^ (mixed >> np.uint64(29))
