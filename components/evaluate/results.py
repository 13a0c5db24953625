"""What an evaluation finds: losses of a split, and answers."""

from __future__ import annotations

from dataclasses import dataclass

from components.modeling.token_loss import TokenLoss


@dataclass(frozen=True)
class Answer:
    """One model's answer to one turn; ``n_tokens`` does not count the end-of-turn token."""

    prompt: str
    turn: str
    model: str
    text: str
    seconds: float
    n_tokens: int

    @property
    def tokens_per_second(self) -> float:
        """Tokens of the answer over its whole time, prompt included."""
        return self.n_tokens / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class SplitLoss:
    """Base and tuned on the same rows of one split."""

    split: str
    n_rows: int
    base: TokenLoss
    tuned: TokenLoss

    @property
    def improvement(self) -> float:
        """By what share of the base's loss the tuned loss is lower."""
        return 1 - self.tuned.loss / self.base.loss if self.base.loss else 0.0
