"""llama.cpp's context itself: a computation that is ended in the middle leaves what was there before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from components.gguf.context import Abort, AbortedError, LlamaDecoder, Rows
from components.gguf.model import GgufModel

TOKENS = [5 + n % 200 for n in range(120)]


@pytest.fixture(scope="module")
def decoder(tiny_run) -> Iterator[LlamaDecoder]:
    model = GgufModel(tiny_run.model, n_ctx=256, n_places=2)
    yield model.decoder
    model.close()


def rows(place: int, begin: int, end: int) -> list[Rows]:
    return [Rows(place, TOKENS[begin:end], begin, [*[False] * (end - begin - 1), True])]


def test_what_is_aborted_ends_early_and_what_was_there_before_still_counts(decoder):
    (row,) = decoder.decode(rows(0, 0, 60))
    (row,) = decoder.decode(rows(0, 60, 120))
    undisturbed = decoder.logits(row).copy()
    decoder.decode(rows(1, 0, 60))
    abort = Abort()
    abort.request()
    with pytest.raises(AbortedError, match="the computation was ended"):
        decoder.decode(rows(1, 60, 120), abort)
    assert decoder.forget(1, 60)
    (row,) = decoder.decode(rows(1, 60, 120), Abort())
    assert np.array_equal(decoder.logits(row), undisturbed)
    (row,) = decoder.decode([Rows(0, [7], 120, [True])])
    assert np.isfinite(decoder.logits(row)).all()
    for place in (0, 1):
        decoder.forget(place)


def test_another_thread_ends_what_is_computed(decoder):
    """Whoever computes holds no lock of Python: the request arrives in the middle."""
    abort = Abort()
    asking = threading.Timer(0.2, abort.request)
    asking.start()
    deadline = time.monotonic() + 60

    def compute() -> None:
        while time.monotonic() < deadline:
            decoder.decode(rows(0, 0, 120), abort)
            decoder.forget(0)

    with pytest.raises(AbortedError):
        compute()
    asking.join()
    decoder.forget(0)
