"""The real lengths of the data: the rows of each split, or a sample of them, in tokens of the base model."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice

from components.artifacts.contracts import BaseModelRef, Row
from components.errors import DataError, LorryError
from components.modeling.token_loss import Example
from components.split_data.config import SplitConfig
from components.split_data.raw import RawRecord
from components.split_data.sources import Batch, local_data, read_batches
from components.split_data.split import rows_of_splits
from components.split_data.stratified_split import split_sizes
from pipelines.config.addresses import claims_in

# More would take longer than it makes the mean of the lengths more certain.
SAMPLED_ROWS = 300
# Of more data only the beginning is read.
MAX_BYTES = 64 * 1024 * 1024
BATCHES_OF_LARGE_DATA = 2


@dataclass(frozen=True)
class SplitLengths:
    """The sequences of one split: how many there are, and the token counts of those that were read.

    ``supervised`` are the tokens of a sequence that are in the loss.
    """

    n_sequences: int
    tokens: tuple[int, ...]
    supervised: tuple[int, ...]

    @property
    def n_tokens(self) -> float:
        """Tokens of the whole split."""
        return self.n_sequences * sum(self.tokens) / max(len(self.tokens), 1)

    @property
    def n_supervised(self) -> float:
        return self.n_sequences * sum(self.supervised) / max(len(self.supervised), 1)

    @property
    def squares(self) -> float:
        """The sum of the squared lengths, with which attention grows."""
        return self.n_sequences * sum(n * n for n in self.tokens) / max(len(self.tokens), 1)

    @property
    def spread(self) -> float:
        """Twice the standard error of the mean length, as a share of it; 0 where every sequence was read."""
        n = len(self.tokens)
        if n >= self.n_sequences or n < 2:
            return 0.0
        mean = sum(self.tokens) / n
        deviation = (sum((length - mean) ** 2 for length in self.tokens) / (n - 1)) ** 0.5
        return float(2 * deviation / mean / n**0.5)


@dataclass(frozen=True)
class SplitSample:
    """A sample of one split's rows as token sequences; ``n_rows`` is the number of rows of the whole split."""

    n_rows: int
    rows: tuple[tuple[Example, ...], ...]

    def cut(self, max_length: int) -> SplitLengths:
        """The lengths with sequences cut to ``max_length`` tokens, without those that nothing supervised is left of."""
        kept = [cut for row in self.rows for one in row if (cut := one.cut(max_length)).n_supervised]
        n = round(self.n_rows * len(kept) / max(len(self.rows), 1))
        counts = tuple(len(one.input_ids) for one in kept)
        return SplitLengths(n, counts, tuple(one.n_supervised for one in kept))


@dataclass(frozen=True)
class Data:
    """The splits of a recipe's data; ``read`` says which part of it was read."""

    train: SplitSample
    validation: SplitSample
    test: SplitSample
    n_records: int
    read: str

    @cached_property
    def answer_tokens(self) -> float:
        """Mean tokens of an answer of the data."""
        counts = [one.n_supervised for row in self.train.rows for one in row]
        return sum(counts) / max(len(counts), 1)


def read_data(split: SplitConfig, base: BaseModelRef) -> Data:
    """Split the data in memory and count the tokens of a sample of each split.

    Raises:
        LorryError: the data cannot be read from this machine, or a library that counts tokens is missing.
    """
    if importlib.util.find_spec("transformers") is None:
        raise LorryError("transformers is not installed here, without which no tokens are counted; run make install")
    if claims := claims_in(source.data for source in split.all_sources):
        raise DataError(f"split.data lies on the volume {claims[0]}, which only the cluster can read")
    bounds = dict.fromkeys(("min_perplexity", "max_perplexity"))
    quality = split.quality.model_copy(update=bounds)
    return _read(split.model_copy(update={"quality": quality, "base_model": base}).model_dump_json())


@lru_cache(maxsize=8)
def _read(document: str) -> Data:
    split = SplitConfig.model_validate_json(document)
    assert split.base_model is not None
    files = [path for source in split.all_sources for path in local_data(source.data, source.data_revision) or ()]
    n_bytes = sum(path.stat().st_size for path in files)
    is_whole = bool(files) and n_bytes <= MAX_BYTES
    rows, n_records = _rows(split, is_whole=is_whole, n_bytes=n_bytes)
    sampled = {name: _sample(split.base_model, own) for name, (own, _) in rows.items()}
    n_train = rows["train"][1]
    n_counted = min(len(rows["train"][0]), SAMPLED_ROWS)
    what = f"{n_counted} of {n_train} training rows" if n_counted < n_train else f"all {n_train} training rows"
    splits = {name: SplitSample(n, sampled[name]) for name, (_, n) in rows.items()}
    return Data(**splits, n_records=n_records, read=what if is_whole else f"{what}, from the beginning of the data")


Rows = dict[str, tuple[list[Row], int]]


def _rows(split: SplitConfig, *, is_whole: bool, n_bytes: int) -> tuple[Rows, int]:
    """The rows of each split with their number in the whole data, and the number of records."""
    if is_whole:
        batches = list(read_batches(split.all_sources))
        rows = rows_of_splits(split, batches)
        return {name: (own, len(own)) for name, own in rows.items()}, sum(len(batch.records) for batch in batches)
    batches = list(islice(read_batches(split.all_sources), BATCHES_OF_LARGE_DATA))
    n_read = sum(len(batch.records) for batch in batches)
    # Fractions give every split rows of the beginning, whatever their counts in the whole are.
    counts = dict.fromkeys(("train_rows", "train_fraction", "test_fraction", "validation_rows"))
    part = split.model_copy(update={**counts, "test_rows": 0, "validation_fraction": 0.1})
    found = rows_of_splits(part, batches)
    usable = sum(map(len, found.values())) / max(n_read, 1)
    n_records = _n_records(split, batches, n_bytes)
    sizes = split_sizes(split, round(n_records * usable))
    n_rest = round(n_records * usable) - sizes.validation - sizes.test
    numbers = {"train": n_rest if sizes.train is None else sizes.train}
    numbers |= {"validation": sizes.validation, "test": sizes.test}
    sources = {"train": found["train"], "validation": found["validation"], "test": found["validation"]}
    return {name: (sources[name], number) for name, number in numbers.items()}, n_records


def _n_records(split: SplitConfig, batches: Sequence[Batch], n_bytes: int) -> int:
    """Records of the whole data, by the bytes of those that were read; at most ``limit`` of each source."""
    n_read = sum(len(batch.records) for batch in batches)
    read_bytes = sum(len(record.value) for record in _records(batches) if isinstance(record.value, bytes))
    limits = [source.limit for source in split.all_sources]
    limit = sum(one for one in limits if one is not None) if all(limits) else None
    if read_bytes and n_bytes:
        found = round(n_read * n_bytes / read_bytes)
    elif limit is not None:
        found = limit
    else:
        wanted = [split.train_rows, split.validation_rows, split.test_rows]
        found = max(n_read, sum(number or 0 for number in wanted))
    return found if limit is None else min(found, limit)


def _records(batches: Sequence[Batch]) -> Iterator[RawRecord]:
    return (record for batch in batches for record in batch.records)


def _sample(base: BaseModelRef, rows: Sequence[Row]) -> tuple[tuple[Example, ...], ...]:
    from components.modeling.base_model import load_tokenizer
    from components.modeling.chat_template import template_of
    from components.modeling.supervision import examples_of

    chosen = rows if len(rows) <= SAMPLED_ROWS else random.Random(0).sample(rows, SAMPLED_ROWS)
    if not chosen:
        return ()
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, base.address)
    examples, _ = examples_of(base, tokenizer, template, chosen)
    return tuple(tuple(own) for own in examples)
