"""The results of an evaluation: losses of a split, and generated answers."""

from __future__ import annotations

from dataclasses import dataclass

from components.modeling.token_loss import TokenLoss


@dataclass(frozen=True)
class GeneratedAnswer:
    """One model's answer to one turn; ``n_tokens`` does not count the end-of-turn token."""

    prompt: str
    turn: str
    model: str
    text: str
    seconds: float
    n_tokens: int

    @property
    def tokens_per_second(self) -> float:
        """Tokens of the answer per second of its whole time, prefill included."""
        return self.n_tokens / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class SplitLoss:
    """The losses of the base and the tuned model on the same rows of one split."""

    split: str
    n_rows: int
    base: TokenLoss
    tuned: TokenLoss

    @property
    def improvement(self) -> float:
        """The share of the base's loss by which the tuned loss is lower."""
        return 1 - self.tuned.loss / self.base.loss if self.base.loss else 0.0
