"""Log probabilities of tokens, as the model gives them: before temperature, penalties, biases and grammars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from components.model_server.engine.interface import Logprob, TokenLogprob

if TYPE_CHECKING:
    from components.gguf.model import GgufModel

# OpenAI's for what cannot be: JSON has no infinity.
LEAST = -9999.0


class Logprobs:
    """Of one model's tokens; only the thread that computes may ask."""

    def __init__(self, model: GgufModel) -> None:
        self._model = model

    def of(self, row: int, token: int, n_top: int) -> TokenLogprob:
        """That of a token that follows a row of the last batch, and of the ``n_top`` that are likeliest there."""
        logits = self._model.decoder.logits(row).astype(np.float64)
        logprobs = np.maximum(logits - (logits.max() + np.log(np.exp(logits - logits.max()).sum())), LEAST)
        top = np.argpartition(logprobs, -n_top)[-n_top:] if n_top else np.empty(0, dtype=np.int64)
        likeliest = sorted(map(int, top), key=lambda one: (-logprobs[one], one))
        return TokenLogprob(
            *self._spelled(token),
            float(logprobs[token]),
            [Logprob(*self._spelled(one), float(logprobs[one])) for one in likeliest],
        )

    def of_first(self, token: int) -> TokenLogprob:
        """Of a prompt's first token, before which there is nothing that could foretell it."""
        return TokenLogprob(*self._spelled(token), None)

    def _spelled(self, token: int) -> tuple[str, bytes]:
        return self._model.spelled(token), self._model.piece(token)
