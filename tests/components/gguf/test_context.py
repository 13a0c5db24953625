"""llama.cpp's context: what is computed can be ended in the middle, and what was there before still counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import llama_cpp
import numpy as np
import pytest

from components.errors import ModelError
from components.gguf.context import Abort, AbortedError, BatchItem, Context
from components.gguf.model import GgufModel

TOKENS = [5 + n % 200 for n in range(120)]


@pytest.fixture(scope="module")
def context(tiny_run) -> Iterator[Context]:
    model = GgufModel(tiny_run.model, n_ctx=256, n_parallel=2)
    yield model.context
    model.close()


def items(seq_id: int, begin: int, end: int) -> list[BatchItem]:
    """Tokens of one sequence, with logits after the last."""
    return [BatchItem(seq_id, TOKENS[begin:end], begin, [*[False] * (end - begin - 1), True])]


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for rounding: which kernels compute a token depends on the batch. Other tokens move logits by 1."""
    return bool(np.abs(one - other).max() < 0.2)


def test_what_is_aborted_ends_early_and_what_was_there_before_still_counts(context):
    (index,) = context.decode(items(0, 0, 60))
    (index,) = context.decode(items(0, 60, 120))
    undisturbed = context.logits(index).copy()
    context.decode(items(1, 0, 60))
    abort = Abort()
    abort.request()
    with pytest.raises(AbortedError, match="the computation was ended"):
        context.decode(items(1, 60, 120), abort)
    assert context.seq_rm(1, 60)
    (index,) = context.decode(items(1, 60, 120), Abort())
    assert np.array_equal(context.logits(index), undisturbed)
    (index,) = context.decode([BatchItem(0, [7], 120, [True])])
    assert np.isfinite(context.logits(index)).all()
    for seq_id in (0, 1):
        context.seq_rm(seq_id)


def test_another_thread_ends_what_is_computed(context):
    """Whoever computes holds no lock of Python: the request arrives in the middle."""
    abort = Abort()
    asking = threading.Timer(0.2, abort.request)
    asking.start()
    deadline = time.monotonic() + 60

    def compute() -> None:
        while time.monotonic() < deadline:
            context.decode(items(0, 0, 120), abort)
            context.seq_rm(0)

    with pytest.raises(AbortedError):
        compute()
    asking.join()
    context.seq_rm(0)


@pytest.fixture
def empty(context) -> Iterator[Context]:
    """The context, whose sequences are empty before and afterwards."""
    for seq_id in (0, 1):
        context.seq_rm(seq_id)
    yield context
    for seq_id in (0, 1):
        context.seq_rm(seq_id)


def last_logits(context: Context, seq_id: int, begin: int, end: int) -> np.ndarray:
    (index,) = context.decode(items(seq_id, begin, end))
    return context.logits(index).copy()


def test_indices_are_those_of_the_tokens_whose_logits_are_wanted(empty):
    wanted = [n % 4 == 1 for n in range(12)]
    batch = [BatchItem(0, TOKENS[:12], 0, wanted), BatchItem(1, TOKENS[:2], 0, [True, False])]
    assert empty.decode(batch) == [1, 5, 9, 12]
    assert empty.logits(5).shape == (empty.n_vocab,)


def test_a_prompt_in_chunks_and_in_company_gives_the_logits_of_the_whole(empty):
    whole = last_logits(empty, 0, 0, 60)
    empty.seq_rm(0)
    empty.decode(items(0, 0, 25))
    empty.decode([*items(0, 25, 59), BatchItem(1, TOKENS[40:70], 0, [False] * 30)])
    assert close(last_logits(empty, 0, 59, 60), whole)


def test_a_sequence_that_is_cut_goes_on_as_if_the_rest_had_never_been(empty):
    right = last_logits(empty, 0, 0, 30)
    empty.decode(items(1, 0, 29))
    empty.decode([BatchItem(1, [9, 9, 9], 29, [False] * 3)])
    assert empty.seq_rm(1, 29)
    assert close(last_logits(empty, 1, 29, 30), right)


def test_a_copied_state_continues_in_another_sequence(empty):
    empty.decode(items(0, 0, 40))
    state = empty.state_seq_get(0)
    assert state.nbytes > 0
    assert empty.state_seq_set(1, state)
    right = last_logits(empty, 0, 40, 50)
    assert close(last_logits(empty, 1, 40, 50), right)
    empty.decode(items(0, 50, 60))
    empty.seq_rm(0)
    assert empty.state_seq_set(0, state), "the copy is whole after its sequence has changed"
    assert close(last_logits(empty, 0, 40, 50), right)


def test_the_state_of_a_short_sequence_is_smaller(empty):
    empty.decode(items(0, 0, 10))
    short = empty.state_seq_get(0).nbytes
    empty.decode(items(0, 10, 100))
    assert short < empty.state_seq_get(0).nbytes / 2


def test_a_state_that_breaks_off_is_refused(empty):
    empty.decode(items(0, 0, 40))
    state = empty.state_seq_get(0)
    assert not empty.state_seq_set(1, state[: state.size // 2].copy())
    assert np.isfinite(last_logits(empty, 1, 0, 10)).all()


def test_the_number_of_threads_changes_no_result(empty):
    right = last_logits(empty, 0, 0, 30)
    empty.set_n_threads(1)
    assert close(last_logits(empty, 1, 0, 30), right)
    empty.set_n_threads(empty.n_threads)


def test_a_batch_that_does_not_fit_the_context_is_refused_and_its_sequence_is_empty(empty):
    empty.decode(items(1, 0, 10))
    n = empty.n_ctx + 1
    with pytest.raises(ModelError, match=rf"cannot compute {n} tokens \(status 1\); ask again"):
        empty.decode([BatchItem(0, [7] * n, 0, [False] * n)])
    assert np.isfinite(last_logits(empty, 0, 0, 5)).all()
    assert np.isfinite(last_logits(empty, 1, 10, 20)).all(), "the other sequence goes on"


def test_an_abort_is_requested_once_and_for_all():
    abort, other = Abort(), Abort()
    assert not abort.requested
    abort.request()
    abort.request()
    assert (abort.requested, other.requested) == (True, False)
    assert abort.address != other.address


def test_without_memory_for_a_context_the_message_says_what_to_change(tiny_run, monkeypatch):
    monkeypatch.setattr(llama_cpp, "llama_init_from_model", lambda *_: None)
    with pytest.raises(
        ModelError, match=r"a context of 3 times 100 tokens; give the process more memory, or ask for fe"
    ):
        GgufModel(tiny_run.model, n_ctx=100, n_parallel=3)
