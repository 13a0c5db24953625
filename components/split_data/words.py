"""Texts as sequences of word hashes, and runs of words (n-grams, shingles) as single hashes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# Scripts without spaces between words: each of their characters counts as one.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Signs count too: "3 + 4" and "3 - 4" are not the same.
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Words:
    """The word hashes of several texts, one after the other; text i is ``hashes[starts[i]:starts[i + 1]]``."""

    hashes: Hashes
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self) -> NDArray[np.int64]:
        """Words of each text."""
        return np.diff(self.starts)

    def runs(self, n_words: int) -> Words:
        """Each run of ``n_words`` words of each text as one hash; a text with fewer words is one run."""
        lengths = self.lengths()
        mixed = np.zeros_like(self.hashes)
        for offset in range(n_words):
            # A word past the end of its text weighs nothing.
            shifted = np.zeros_like(self.hashes)
            shifted[: len(self.hashes) - offset] = self.hashes[offset:]
            shifted[self._left() <= offset] = 0
            mixed = _scramble(mixed + shifted)
        n_runs = np.where(lengths > 0, np.maximum(lengths - n_words + 1, 1), 0)
        starts = np.concatenate([[0], np.cumsum(n_runs)])
        kept = np.arange(len(self.hashes)) - np.repeat(self.starts[:-1], lengths) < np.repeat(n_runs, lengths)
        return Words(mixed[kept], starts)

    def _left(self) -> NDArray[np.int64]:
        """For each word, how many words its text has from there on."""
        return np.repeat(self.starts[1:], self.lengths()) - np.arange(len(self.hashes))

    def joined(self, n_texts: Sequence[int]) -> Words:
        """The same words as fewer texts: the first ``n_texts[0]`` texts become one, and so on."""
        return Words(self.hashes, self.starts[np.concatenate([[0], np.cumsum(n_texts)]).astype(np.int64)])

    def without(self, texts: NDArray[np.bool_]) -> Words:
        """The same texts, those that ``texts`` marks emptied."""
        lengths = self.lengths()
        kept = np.repeat(~texts, lengths)
        return Words(self.hashes[kept], np.concatenate([[0], np.cumsum(np.where(texts, 0, lengths))]))


def words_of(texts: Sequence[str]) -> Words:
    """Hash the words of ``texts``; case and the ways of writing a character do not count."""
    import rensa

    found = [_WORD.findall(unicodedata.normalize("NFKC", text).casefold()) for text in texts]
    hashes = [np.asarray(row, dtype=np.uint64) for row in rensa.RMinHash.hash_token_sets(found)]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in hashes])]).astype(np.int64)
    return Words(np.concatenate([np.empty(0, dtype=np.uint64), *hashes]), starts)


def normal(text: str) -> str:
    """``text`` in one spelling: compatibility forms, case and white space do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _scramble(values: Hashes) -> Hashes:
    """Spread ``values`` over all 64 bits, so that the order of words counts."""
    mixed = (values ^ (values >> np.uint64(31))) * _ODD
    return mixed ^ (mixed >> np.uint64(29))
