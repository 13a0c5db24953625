"""The token-weighted loss, on a model whose logits are given."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from components.modeling import token_loss as module
from components.modeling.token_loss import (
    MAX_LOSS_FOR_PERPLEXITY,
    Example,
    TokenLoss,
    gives_chosen_logits,
    mean_loss,
    perplexity_of,
    row_losses,
    token_loss,
)

N_VOCAB = 5


class NextToken(torch.nn.Module):
    """Gives the token after the last one, modulo the vocabulary, a logit of 2 and the others 0."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=N_VOCAB)
        self.device = torch.device("cpu")
        self.batches: list[tuple[list[list[int]], list[list[int]]]] = []
        self.kept: list[int] = []

    def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool, logits_to_keep: Any) -> Any:
        assert not use_cache
        assert not self.training
        self.batches.append((input_ids.tolist(), attention_mask.tolist()))
        self.kept.append(len(logits_to_keep))
        logits = 2.0 * torch.nn.functional.one_hot((input_ids + 1) % N_VOCAB, N_VOCAB).double()
        return SimpleNamespace(logits=logits[:, logits_to_keep])


class AllLogits(NextToken):
    def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool) -> Any:  # type: ignore[override]
        return super().forward(input_ids, attention_mask, use_cache, torch.arange(input_ids.shape[1]))


# The loss of a token that the model expects, and of another one.
RIGHT = -math.log(math.exp(2) / (math.exp(2) + 4))
WRONG = -math.log(1 / (math.exp(2) + 4))


def example(ids: list[int], supervised: set[int]) -> Example:
    return Example(ids, [token if i in supervised else -100 for i, token in enumerate(ids)])


def measure(examples: list[Example], model: Any = None, batch_size: int = 8) -> list[TokenLoss]:
    return row_losses(model or NextToken(), examples, batch_size=batch_size, pad_token_id=0)


def test_a_row_s_loss_is_the_mean_over_its_supervised_tokens():
    (found,) = measure([example([1, 2, 3, 1], {1, 3})])  # 2 follows 1 as expected, 1 after 3 does not
    assert found.n_tokens == 2
    assert found.loss == pytest.approx((RIGHT + WRONG) / 2)


def test_the_first_token_is_never_in_the_loss_and_a_row_may_have_none():
    only_first, none = example([1, 2], {0}), example([1, 2, 3], set())
    assert only_first.n_supervised == 0
    assert measure([only_first, none]) == [TokenLoss(0.0, 0), TokenLoss(0.0, 0)]


def test_rows_keep_their_order_whatever_their_lengths():
    rows = [example([1, 2], {1}), example([1, 1, 1, 1], {3}), example([3, 4, 0], {1, 2})]
    found = measure(rows, batch_size=2)
    assert [loss.n_tokens for loss in found] == [1, 1, 2]
    assert [loss.loss for loss in found] == pytest.approx([RIGHT, WRONG, RIGHT])


def test_padding_is_masked_and_on_the_right():
    model = NextToken()
    measure([example([1, 2], {1}), example([1, 2, 3], {1})], model)
    assert model.batches == [([[1, 2, 3], [1, 2, 0]], [[1, 1, 1], [1, 1, 0]])]


def test_positions_that_no_row_supervises_get_no_logits():
    model = NextToken()
    measure([example([1, 2, 3, 4, 0], {2}), example([1, 2, 3, 4], {2, 3})], model)
    assert model.kept == [2]


def test_a_model_that_gives_all_logits_only_is_measured_the_same():
    rows = [example([1, 2, 3, 1], {1, 3}), example([2, 2], {1})]
    assert not gives_chosen_logits(AllLogits())
    assert gives_chosen_logits(NextToken())
    found, expected = measure(rows, AllLogits()), measure(rows)
    assert [loss.loss for loss in found] == pytest.approx([loss.loss for loss in expected])


def test_the_forward_of_the_base_counts_under_an_adapter():
    adapted = SimpleNamespace(get_base_model=NextToken)
    assert gives_chosen_logits(adapted)  # type: ignore[arg-type]


def test_batches_are_limited_by_their_rows_and_by_their_logits(monkeypatch):
    rows = [example([1, 2, 3], {1})] * 5
    model = NextToken()
    measure(rows, model, batch_size=2)
    assert [len(ids) for ids, _ in model.batches] == [2, 2, 1]
    monkeypatch.setattr(module, "MAX_LOGITS", 3 * 3 * N_VOCAB)
    model = NextToken()
    measure(rows, model, batch_size=8)
    assert [len(ids) for ids, _ in model.batches] == [3, 2]
    monkeypatch.setattr(module, "MAX_LOGITS", 1)
    model = NextToken()
    measure(rows, model)
    assert [len(ids) for ids, _ in model.batches] == [1] * 5, "a row that is too large alone is a batch"


def test_the_model_goes_back_to_training():
    model = NextToken().train()
    measure([example([1, 2], {1})], model)
    assert model.training
    measure([example([1, 2], {1})], model.eval())
    assert not model.training


def test_the_mean_over_rows_counts_each_token_once():
    assert mean_loss([TokenLoss(1.0, 1), TokenLoss(3.0, 3)]) == TokenLoss(2.5, 4)
    assert mean_loss([]) == TokenLoss(0.0, 0)
    rows = [example([1, 2], {1}), example([1, 1, 1, 1], {1, 2, 3})]
    found = token_loss(NextToken(), rows, batch_size=1, pad_token_id=0)  # type: ignore[arg-type]
    assert found.n_tokens == 4
    assert found.loss == pytest.approx((RIGHT + 3 * WRONG) / 4)


def test_a_perplexity_is_e_to_the_loss_and_bounded():
    assert TokenLoss(0.0, 1).perplexity == 1.0
    assert perplexity_of(2.0) == pytest.approx(math.exp(2))
    assert perplexity_of(1e9) == math.exp(MAX_LOSS_FOR_PERPLEXITY)


def test_cutting_an_example_cuts_both_lists():
    cut = example([1, 2, 3, 4], {1, 3}).cut(2)
    assert (cut.input_ids, cut.labels, cut.n_supervised) == ([1, 2], [-100, 2], 1)
    whole = example([1, 2], {1})
    assert whole.cut(9) == whole
