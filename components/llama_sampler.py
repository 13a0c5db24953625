"""llama.cpp's samplers, one chain for each answer: what one answer draws is no other's business."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from components.errors import ModelError
from components.sampling import Sampling

# llama.cpp's struct llama_token_data.
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class LlamaSampler:
    """Draws the tokens of one answer; ``close`` frees what llama.cpp holds for it."""

    def __init__(self, vocab: Any, sampling: Sampling, *, n_ctx: int) -> None:
        """``n_ctx`` tokens at most are remembered for the penalties.

        Raises:
            ModelError: llama.cpp does not take the grammar.
        """
        self._vocab = vocab
        self._n_vocab = llama_cpp.llama_vocab_n_tokens(vocab)
        # The likeliest of all needs no list of candidates: over 128,000 tokens that is a third of a millisecond less.
        self._plainly_greedy = sampling.temperature == 0 and not sampling.penalizes and not sampling.logit_bias
        self._grammar: Any = None
        if sampling.grammar is not None:
            self._grammar = llama_cpp.llama_sampler_init_grammar(vocab, sampling.grammar.encode(), b"root")
            if not self._grammar:
                raise ModelError("llama.cpp does not take this grammar; simplify the JSON schema")
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for sampler in self._samplers(sampling, n_ctx):
            llama_cpp.llama_sampler_chain_add(self._chain, sampler)

    def sample(self, context: Any, row: int) -> int:
        """The token that follows row ``row`` of the last batch; it counts as said."""
        if self._grammar is None:
            if self._plainly_greedy:
                return int(self._logits(context, row).argmax())
            return int(llama_cpp.llama_sampler_sample(self._chain, context, row))
        token = self._draw(context, row, grammar=False)
        # To ask the grammar about one token is cheap; about the whole vocabulary, tens of milliseconds.
        if not self._allowed(token):
            token = self._draw(context, row, grammar=True)
        llama_cpp.llama_sampler_accept(self._grammar, token)
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
        """Free the samplers."""
        llama_cpp.llama_sampler_free(self._chain)
        if self._grammar is not None:
            llama_cpp.llama_sampler_free(self._grammar)

    def _samplers(self, sampling: Sampling, n_ctx: int) -> list[Any]:
        samplers = []
        if sampling.logit_bias:
            biases = (llama_cpp.llama_logit_bias * len(sampling.logit_bias))()
            for entry, (token, bias) in zip(biases, sampling.logit_bias.items(), strict=True):
                entry.token, entry.bias = token, bias
            samplers.append(llama_cpp.llama_sampler_init_logit_bias(self._n_vocab, len(biases), biases))
        if sampling.penalizes:
            penalties = (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty)
            samplers.append(llama_cpp.llama_sampler_init_penalties(self._n_vocab, n_ctx, *penalties))
        if sampling.temperature == 0:
            return [*samplers, llama_cpp.llama_sampler_init_greedy()]
        if sampling.top_k > 0:
            samplers.append(llama_cpp.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            samplers.append(llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            samplers.append(llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1))
        seed = llama_cpp.LLAMA_DEFAULT_SEED if sampling.seed is None else sampling.seed
        samplers.append(llama_cpp.llama_sampler_init_temp(sampling.temperature))
        return [*samplers, llama_cpp.llama_sampler_init_dist(seed)]

    def _draw(self, context: Any, row: int, *, grammar: bool) -> int:
        candidates = np.empty(self._n_vocab, dtype=CANDIDATE)
        candidates["id"] = np.arange(self._n_vocab)
        candidates["logit"] = self._logits(context, row)
        candidates["p"] = 0
        listed = _listed(candidates)
        if grammar:
            llama_cpp.llama_sampler_apply(self._grammar, ctypes.byref(listed))
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(listed))
        return int(listed.data[listed.selected].id)

    def _logits(self, context: Any, row: int) -> NDArray[np.float32]:
        """Logits after a row, (vocabulary,)."""
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, row), (self._n_vocab,))

    def _allowed(self, token: int) -> bool:
        one = np.array([(token, 1.0, 0.0)], dtype=CANDIDATE)
        listed = _listed(one)
        llama_cpp.llama_sampler_apply(self._grammar, ctypes.byref(listed))
        return bool(np.isfinite(one["logit"][0]))


def _listed(candidates: Any) -> Any:
    data = candidates.ctypes.data_as(llama_cpp.llama_token_data_p)
    return llama_cpp.llama_token_data_array(data=data, size=len(candidates), selected=-1, sorted=False)
