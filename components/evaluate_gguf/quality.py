"""Two GGUF files on the same tokens: the perplexity of each, and how much their predictions differ."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from components.gguf.model import GgufModel
from components.modeling.token_loss import Example, perplexity_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

ROWS_BETWEEN_LINES = 10


@dataclass
class Quality:
    """Sums over supervised tokens. Losses and divergences are in nats; ``divergences`` has one for each token.

    ``divergence`` is KL(reference || other): what the other's predictions lose against the reference's.
    """

    n_tokens: int = 0
    reference_loss: float = 0.0
    loss: float = 0.0
    divergence: float = 0.0
    divergences: list[float] = field(default_factory=list)
    same_top: int = 0

    @property
    def figures(self) -> dict[str, float]:
        """Means, by the names that the gate and the comparison of runs use."""
        import numpy as np

        n = max(self.n_tokens, 1)
        f16, quantized = perplexity_of(self.reference_loss / n), perplexity_of(self.loss / n)
        return {
            "measured_tokens": self.n_tokens,
            "f16_perplexity": f16,
            "quantized_perplexity": quantized,
            "perplexity_increase": quantized / f16 - 1,
            "kl_divergence": self.divergence / n,
            "kl_divergence_99th_percentile": float(np.percentile(self.divergences, 99)) if self.divergences else 0.0,
            "same_top_token": self.same_top / n,
        }

    def add(self, reference: NDArray[np.float32], other: NDArray[np.float32], targets: Sequence[int]) -> None:
        """Add logits of ``reference`` and ``other``, (positions, vocabulary), and the tokens at the next positions."""
        import numpy as np

        ours, theirs = _log_softmax(reference), _log_softmax(other)
        rows = np.arange(len(targets))
        self.reference_loss -= float(ours[rows, targets].sum())
        self.loss -= float(theirs[rows, targets].sum())
        divergences = (np.exp(ours) * (ours - theirs)).sum(axis=1)
        self.divergence += float(divergences.sum())
        self.divergences += divergences.tolist()
        self.same_top += int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum())
        self.n_tokens += len(targets)


def compare(reference: GgufModel, other: GgufModel, examples: Sequence[Example]) -> Quality:
    """Measure both on every supervised token of ``examples``, each cut to the smaller context."""
    quality = Quality()
    longest = min(reference.n_ctx, other.n_ctx)
    for number, whole in enumerate(examples, start=1):
        example = whole.cut(longest)
        wanted, targets = supervised(example)
        blocks = zip(reference.logits(example.input_ids, wanted), other.logits(example.input_ids, wanted), strict=True)
        n_done = 0
        for ours, theirs in blocks:
            quality.add(ours, theirs, targets[n_done : n_done + len(ours)])
            n_done += len(ours)
        if number % ROWS_BETWEEN_LINES == 0 or number == len(examples):
            log.info("row %d/%d compared with f16", number, len(examples))
    return quality


def supervised(example: Example) -> tuple[list[bool], list[int]]:
    """For each token, whether the logits after it predict a supervised token; and those tokens, in order."""
    wanted = [label != -100 for label in example.labels[1:]]
    targets = [token for token, counts in zip(example.input_ids[1:], wanted, strict=True) if counts]
    return [*wanted, False], targets


def _log_softmax(logits: NDArray[np.float32]) -> Any:
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
