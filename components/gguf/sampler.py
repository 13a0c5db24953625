"""llama.cpp's samplers: a chain of its own for each answer, so that answers do not change each other's draws."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from components.errors import ModelError
from components.gguf.context import Context
from components.gguf.sampling import Sampling

# llama.cpp's struct llama_token_data.
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """Draws the tokens of one answer; ``close`` frees what llama.cpp holds for it."""

    def __init__(self, vocab: Any, sampling: Sampling, *, n_ctx: int, matcher: Any = None) -> None:
        """The penalties count the last ``n_ctx`` tokens; ``matcher`` (llguidance) says which tokens are allowed."""
        self._n_vocab = llama_cpp.llama_vocab_n_tokens(vocab)
        self._matcher = matcher
        # The likeliest of all needs no list of candidates: over 128,000 tokens that is a third of a millisecond less.
        self._is_argmax = (
            sampling.temperature == 0 and not sampling.penalizes and not sampling.logit_bias and matcher is None
        )
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for sampler in self._samplers(sampling, n_ctx):
            llama_cpp.llama_sampler_chain_add(self._chain, sampler)

    def sample(self, context: Context, index: int) -> int:
        """Draw the token that follows the one at ``index`` of the last batch, and accept it: the penalties count it.

        Raises:
            ModelError: no token follows what the JSON schema asks for.
        """
        if self._is_argmax:
            return int(context.logits(index).argmax())
        if self._matcher is None:
            return int(llama_cpp.llama_sampler_sample(self._chain, context.pointer, index))
        token = self._draw(context.logits(index))
        # To check one token is cheap; the mask of a whole vocabulary takes milliseconds.
        if self._matcher.validate_tokens([token]) != 1:
            token = self._draw(np.where(self._mask(), context.logits(index), -np.inf))
        if not self._matcher.consume_token(token):
            raise ModelError("no token follows what the JSON schema asks for; simplify the schema")
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
        """Free the samplers."""
        llama_cpp.llama_sampler_free(self._chain)

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

    def _draw(self, logits: NDArray[np.float32]) -> int:
        """The token that the chain selects from ``logits``, (vocabulary,)."""
        candidates = np.empty(self._n_vocab, dtype=CANDIDATE)
        candidates["id"] = np.arange(self._n_vocab)
        candidates["logit"] = logits
        candidates["p"] = 0
        data = candidates.ctypes.data_as(llama_cpp.llama_token_data_p)
        listed = llama_cpp.llama_token_data_array(data=data, size=len(candidates), selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(listed))
        return int(listed.data[listed.selected].id)

    def _mask(self) -> NDArray[np.bool_]:
        """Which tokens are allowed next, (vocabulary,); llguidance packs them into bits, the lowest token lowest."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, bitorder="little")[: self._n_vocab].astype(bool)
