"""How tokens are drawn: each setting of ``Sampling`` on the logits of a real model, and a matcher's veto."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from components.errors import ModelError
from components.gguf.model import GgufModel
from components.gguf.sampler import Sampler
from components.gguf.sampling import Sampling


class Drawing:
    """A model whose last batch is one token, whose logits every sampler of a test draws from."""

    def __init__(self, model: GgufModel) -> None:
        self.model = model
        (self.index,) = model._decode([7], 0, [True])
        self.logits = model.context.logits(self.index).copy()
        self.order = np.argsort(-self.logits, kind="stable").tolist()

    def draw(self, n: int = 1, matcher: Any = None, **settings: Any) -> list[int]:
        """``n`` tokens of one answer, all from the same logits."""
        sampler = Sampler(self.model.vocab, Sampling(**settings), n_ctx=64, matcher=matcher)
        try:
            return [sampler.sample(self.model.context, self.index) for _ in range(n)]
        finally:
            sampler.close()


@pytest.fixture(scope="module")
def drawing(tiny_run) -> Iterator[Drawing]:
    model = GgufModel(tiny_run.model, n_ctx=64)
    yield Drawing(model)
    model.close()


@pytest.mark.parametrize(
    "settings",
    [{}, {"seed": 5}, {"temperature": 2.0, "top_k": 1}, {"temperature": 2.0, "top_p": 1e-6},
     {"temperature": 2.0, "min_p": 1.0}, {"logit_bias": {3: 0.0}}, {"repetition_penalty": 1.0}],
    ids=str,
)  # fmt: skip
def test_settings_that_leave_one_token_give_the_likeliest(drawing, settings):
    assert drawing.draw(3, **settings) == [drawing.order[0]] * 3


def test_a_bias_is_added_to_its_tokens_logit(drawing):
    first, second, last = drawing.order[0], drawing.order[1], drawing.order[-1]
    assert drawing.draw(logit_bias={last: 100.0}) == [last]
    assert drawing.draw(logit_bias={first: -100.0}) == [second]
    gap = float(drawing.logits[first] - drawing.logits[second])
    assert drawing.draw(logit_bias={second: 0.5 * gap}) == [first]
    assert drawing.draw(logit_bias={second: 1.5 * gap}) == [second]


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_a_penalty_counts_the_tokens_of_this_answer_only(drawing, penalty):
    assert drawing.draw(4, **{penalty: 1000.0}) == drawing.order[:4]
    assert drawing.draw(1, **{penalty: 1000.0}) == drawing.order[:1]


def test_a_repetition_penalty_divides_the_logits_of_tokens_that_came(drawing):
    first = drawing.order[0]
    if drawing.logits[first] <= 0:
        pytest.skip("the likeliest token has no positive logit to divide")
    drawn = drawing.draw(2, repetition_penalty=1000.0)
    assert drawn[0] == first
    assert drawn[1] != first


def test_top_k_and_top_p_leave_out_all_but_the_likeliest(drawing):
    assert set(drawing.draw(200, temperature=2.0, top_k=3, seed=1)) == set(drawing.order[:3])
    probabilities = np.exp(drawing.logits - drawing.logits.max())
    nucleus = np.cumsum(np.sort(probabilities / probabilities.sum())[::-1])
    n = int(np.searchsorted(nucleus, 0.2)) + 1
    assert set(drawing.draw(200, temperature=1.0, top_p=0.2, seed=1)) <= set(drawing.order[:n])


def test_a_seed_gives_the_same_draws_and_another_seed_others(drawing):
    drawn = drawing.draw(20, temperature=1.0, seed=11)
    assert drawing.draw(20, temperature=1.0, seed=11) == drawn
    assert drawing.draw(20, temperature=1.0, seed=12) != drawn


def test_draws_follow_the_models_probabilities(drawing):
    first, second = drawing.order[:2]
    drawn = drawing.draw(3000, temperature=1.0, top_k=2, seed=3)
    share = 1 / (1 + np.exp(drawing.logits[second] - drawing.logits[first]))
    assert drawn.count(first) / len(drawn) == pytest.approx(share, abs=0.05)


class Allows:
    """A stand-in for llguidance's matcher: only ``tokens`` are allowed; it counts how often a mask is made."""

    def __init__(self, tokens: set[int], n_vocab: int) -> None:
        self.tokens, self.n_vocab = tokens, n_vocab
        self.n_masks = 0
        self.consumed: list[int] = []

    def validate_tokens(self, tokens: list[int]) -> int:
        return sum(token in self.tokens for token in tokens)

    def compute_bitmask(self) -> bytes:
        self.n_masks += 1
        allowed = np.array([token in self.tokens for token in range(self.n_vocab)])
        return np.packbits(allowed, bitorder="little").tobytes()

    def consume_token(self, token: int) -> bool:
        self.consumed.append(token)
        return token in self.tokens


def test_a_matcher_leaves_the_likeliest_token_that_it_allows(drawing):
    allowed = {drawing.order[5], drawing.order[9], drawing.order[300]}
    matcher = Allows(allowed, drawing.model.n_vocab)
    assert drawing.draw(2, matcher) == [drawing.order[5]] * 2
    assert matcher.consumed == [drawing.order[5]] * 2
    assert matcher.n_masks == 2
    assert set(drawing.draw(50, matcher, temperature=2.0, seed=1)) <= allowed


def test_no_mask_is_made_where_the_drawn_token_is_allowed(drawing):
    matcher = Allows({drawing.order[0]}, drawing.model.n_vocab)
    assert drawing.draw(3, matcher) == [drawing.order[0]] * 3
    assert matcher.n_masks == 0


def test_penalties_count_the_tokens_that_a_matcher_let_through(drawing):
    allowed = {drawing.order[2], drawing.order[4]}
    matcher = Allows(allowed, drawing.model.n_vocab)
    assert drawing.draw(2, matcher, presence_penalty=1000.0) == [drawing.order[2], drawing.order[4]]


def test_where_no_token_is_allowed_the_answer_fails_and_says_what_to_change(drawing):
    with pytest.raises(ModelError, match=r"no token follows .*JSON schema.*; simplify the schema"):
        drawing.draw(1, Allows(set(), drawing.model.n_vocab))


@pytest.mark.parametrize(
    ("settings", "penalizes"),
    [({}, False), ({"temperature": 2.0, "logit_bias": {1: 2.0}}, False), ({"presence_penalty": 0.1}, True),
     ({"frequency_penalty": -0.1}, True), ({"repetition_penalty": 1.1}, True)],
    ids=str,
)  # fmt: skip
def test_only_penalties_change_what_is_likely_by_what_came(settings, penalizes):
    assert Sampling(**settings).penalizes is penalizes
