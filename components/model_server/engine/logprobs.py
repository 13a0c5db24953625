"""Log probabilities of tokens, as the model gives them: before temperature, penalties, biases and grammars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from components.model_server.engine.interface import Logprob, TokenLogprob

if TYPE_CHECKING:
    from components.gguf.model import GgufModel

# OpenAI's value for an impossible token: JSON has no infinity.
LEAST = -9999.0


class Logprobs:
    """Log probabilities of one model's last batch; only the thread that computes may ask."""

    def __init__(self, model: GgufModel) -> None:
        self._model = model

    def of(self, index: int, token: int, n_top: int) -> TokenLogprob:
        """That of a token after the one at ``index`` of the batch, and those of the ``n_top`` likeliest there."""
        logits = self._model.context.logits(index).astype(np.float64)
        logprobs = np.maximum(logits - (logits.max() + np.log(np.exp(logits - logits.max()).sum())), LEAST)
        top = np.argpartition(logprobs, -n_top)[-n_top:] if n_top else np.empty(0, dtype=np.int64)
        likeliest = sorted(map(int, top), key=lambda one: (-logprobs[one], one))
        return TokenLogprob(
            *self._texts(token),
            float(logprobs[token]),
            [Logprob(*self._texts(one), float(logprobs[one])) for one in likeliest],
        )

    def of_first(self, token: int) -> TokenLogprob:
        """That of a prompt's first token, which nothing predicts: None."""
        return TokenLogprob(*self._texts(token), None)

    def _texts(self, token: int) -> tuple[str, bytes]:
        return self._model.spelled(token), self._model.piece(token)
