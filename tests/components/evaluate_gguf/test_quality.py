"""Perplexity and divergence over tokens, on logits whose figures are known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from components.evaluate_gguf.quality import Quality, compare, supervised
from components.modeling.token_loss import Example

HALF, QUARTERS = np.log([0.5, 0.25, 0.25]), np.log([0.25, 0.5, 0.25])


def quality_of(*positions: tuple[np.ndarray, np.ndarray, int]) -> Quality:
    """Over positions: the logits of both, and the token there."""
    quality = Quality()
    for reference, other, target in positions:
        quality.add(reference[None].astype(np.float32), other[None].astype(np.float32), [target])
    return quality


def test_perplexities_are_e_to_the_mean_loss():
    figures = quality_of((HALF, QUARTERS, 0), (HALF, QUARTERS, 1)).figures
    assert figures["measured_tokens"] == 2
    assert figures["f16_perplexity"] == pytest.approx(math.sqrt(2 * 4))
    assert figures["quantized_perplexity"] == pytest.approx(math.sqrt(4 * 2))
    assert figures["perplexity_increase"] == pytest.approx(0.0)
    worse = quality_of((HALF, QUARTERS, 0)).figures
    assert worse["perplexity_increase"] == pytest.approx(4 / 2 - 1)


def test_the_divergence_is_of_all_tokens_and_never_negative():
    expected = 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(0.25 / 0.5)
    assert quality_of((HALF, QUARTERS, 2)).figures["kl_divergence"] == pytest.approx(expected)
    draw = np.random.default_rng(1)
    for _ in range(50):
        one, other = draw.normal(size=(2, 3)) * 3
        assert quality_of((one, other, 0)).figures["kl_divergence"] >= 0


def test_logits_are_measured_up_to_a_constant():
    plain = quality_of((HALF, QUARTERS, 1)).figures
    shifted = quality_of((HALF + 50, QUARTERS - 500, 1)).figures
    assert shifted == pytest.approx(plain, rel=1e-4)


def test_the_99th_percentile_shows_what_the_mean_hides():
    same = [(HALF, HALF, 0)] * 50
    figures = quality_of(*same, (HALF, np.array([-50.0, 0.0, 0.0]), 0)).figures
    assert figures["kl_divergence"] < 1 < figures["kl_divergence_99th_percentile"]
    assert quality_of(*same).figures["kl_divergence_99th_percentile"] == pytest.approx(0.0)


def test_the_same_top_token_is_a_share_of_positions():
    figures = quality_of((HALF, HALF, 0), (HALF, QUARTERS, 0), (QUARTERS, QUARTERS, 0), (QUARTERS, HALF, 0)).figures
    assert figures["same_top_token"] == 0.5


def test_without_tokens_there_are_figures_all_the_same():
    figures = Quality().figures
    assert (figures["measured_tokens"], figures["kl_divergence"], figures["same_top_token"]) == (0, 0, 0)
    assert figures["f16_perplexity"] == figures["quantized_perplexity"] == 1


def test_a_position_predicts_the_next_token_where_that_one_is_supervised():
    wanted, targets = supervised(Example([10, 11, 12, 13], [-100, -100, 12, 13]))
    assert (wanted, targets) == ([False, True, True, False], [12, 13])
    assert supervised(Example([10, 11], [10, -100])) == ([False, False], []), "nothing predicts the first token"


class Blocks:
    """A model whose logits come two positions at a time; they depend on the token alone."""

    def __init__(self, n_ctx: int, shift: float = 0.0) -> None:
        self.n_ctx, self.shift = n_ctx, shift
        self.measured: list[list[int]] = []

    def logits(self, tokens: Sequence[int], wanted: Sequence[bool]) -> Iterator[np.ndarray]:
        chosen = [token for token, counts in zip(tokens, wanted, strict=True) if counts]
        self.measured.append(chosen)
        for begin in range(0, len(chosen), 2):
            yield np.array([[token, 1.0 + self.shift, 2.0] for token in chosen[begin : begin + 2]], dtype=np.float32)


def test_both_files_are_measured_on_the_same_tokens_within_the_smaller_context():
    reference, other = Blocks(6), Blocks(5, shift=3.0)
    examples = [Example([0, 1, 2, 0, 1, 2, 0], [-100, 1, 2, 0, 1, 2, 0]), Example([2, 1], [-100, 1])]
    quality = compare(reference, other, examples)  # type: ignore[arg-type]
    assert reference.measured == other.measured == [[0, 1, 2, 0], [2]]
    assert quality.n_tokens == len(quality.divergences) == 5
    assert quality.figures["kl_divergence"] > 0
    alone = compare(Blocks(6), Blocks(6), examples)  # type: ignore[arg-type]
    assert alone.figures["kl_divergence"] == 0
    assert alone.n_tokens == 6
