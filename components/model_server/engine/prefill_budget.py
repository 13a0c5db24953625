"""How many tokens of a prompt are prefilled in a step, so that running answers keep their inter-token latency (ITL).

What a step costs is measured on the node; the setting is the latency between two tokens that a prompt may cause.
"""

from __future__ import annotations

# What a prompt token costs depends on how many are computed at once, and where the borders lie differs with the
# processor. On one here 48 tokens took 6.5 ms each, 64 tokens 7.3 and 128 tokens 6.2.
CHUNK_SIZES = (16, 32, 48, 64, 96, 128, 256, 512)
# From 64 tokens up llama.cpp's FlashAttention on CPUs has its tiled kernel. Far into a prompt fewer tokens take as long
# as 64: behind 2,500 tokens 32 took 0.60 s and 64 took 0.66 s, at the beginning 0.31 and 0.58 s.
TILE = 64
FAR = 512
# A new measurement counts this much against all before it: neighbours on the node come and go.
WEIGHT = 0.3
# A larger chunk may cost this much more for each of its tokens.
TOLERANCE = 1.05
# Each further prompt that is prefilled lets the latency grow by this share. A crowd that comes at once is prefilled in
# larger chunks, and its answers then come in larger batches: both are cheaper.
ITL_GROWTH_PER_PROMPT = 0.5
# Two readings of a coarse clock can be equal, and costs are divided by each other.
SHORTEST_SECONDS = 1e-6
# Until something was measured.
FIRST_GUESS_SECONDS_PER_TOKEN = 0.005


class PrefillBudget:
    """Learns what prompt tokens cost on this node; times are in seconds."""

    def __init__(self, *, itl_seconds: float, idle_itl_seconds: float, n_batch: int) -> None:
        """``itl_seconds`` while sequences decode, ``idle_itl_seconds`` while none does; at most ``n_batch`` tokens."""
        self._itl_seconds = itl_seconds
        self._idle_itl_seconds = idle_itl_seconds
        self.sizes = [size for size in CHUNK_SIZES if size <= n_batch] or [n_batch]
        self._near = _Costs(self.sizes)
        self._far = _Costs([size for size in self.sizes if size >= TILE] or self.sizes[-1:])
        self._was_far = False

    def n_tokens(self, *, decode_seconds: float | None, pos: int, n_prefilling: int = 1) -> int:
        """Tokens of the next chunk of a prompt, the first of which has position ``pos``.

        ``decode_seconds`` is how long the step's decode took; None: nothing decodes. Prefill gets at least as long as
        decode does, so that many streams do not starve a new request. While ``n_prefilling`` prompts are prefilled, the
        latency may grow.
        """
        if decode_seconds is None:
            left = self._idle_itl_seconds
        else:
            itl = self._itl_seconds * (1 + ITL_GROWTH_PER_PROMPT * (n_prefilling - 1))
            itl = min(itl, max(self._idle_itl_seconds, self._itl_seconds))
            left = max(itl - decode_seconds, decode_seconds)
        return (self._far if pos >= FAR else self._near).largest_within(left)

    def learn(self, n_tokens: int, seconds: float, *, pos: int) -> None:
        """Learn from a chunk of a prompt, the first token of which had position ``pos``."""
        self._was_far = self._was_far or pos >= FAR
        if pos < FAR:
            self._near.learn(n_tokens, seconds)
        if pos >= FAR or not self._was_far:
            self._far.learn(n_tokens, seconds)


class _Costs:
    """Seconds per token by the size of a chunk."""

    def __init__(self, sizes: list[int]) -> None:
        self._per_token = dict.fromkeys(sizes, FIRST_GUESS_SECONDS_PER_TOKEN)
        self._measured: set[int] = set()

    def largest_within(self, seconds: float) -> int:
        """Of the sizes that fit into ``seconds``, the largest of about the least cost; the smallest where none fits."""
        fitting = {size: per_token for size, per_token in self._per_token.items() if size * per_token <= seconds}
        if not fitting:
            return min(self._per_token)
        least = min(fitting.values())
        return max(size for size, per_token in fitting.items() if per_token <= TOLERANCE * least)

    def learn(self, n_tokens: int, seconds: float) -> None:
        """Learn from a chunk; one between two sizes says little about either and is left out."""
        if n_tokens not in self._per_token:
            return
        per_token = max(seconds, SHORTEST_SECONDS) / n_tokens
        if n_tokens in self._measured:
            per_token = WEIGHT * per_token + (1 - WEIGHT) * self._per_token[n_tokens]
        change = per_token / self._per_token[n_tokens]
        self._measured.add(n_tokens)
        for size in self._per_token:
            if size == n_tokens or (size > n_tokens and size not in self._measured):
                self._per_token[size] = per_token  # a larger one that was not measured costs about as much
            elif size in self._measured:
                # A neighbour on the node slows every size, other causes only some: half of the change counts for all.
                self._per_token[size] *= change**0.5
