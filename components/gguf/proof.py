"""The child process that proves kernels: ``python -m components.gguf.proof MODEL [VARIANT]``."""

from __future__ import annotations

import sys
from pathlib import Path

from components.gguf.kernels import load_variant
from components.gguf.model import GgufModel

# A prompt and a single token take different paths through the kernels.
PROMPT_TOKENS = 64
N_CTX = 128


def compute_a_token(model: Path, variant: Path | None = None) -> None:
    """Compute a prompt and a token of ``model``, with the kernels of ``variant`` where there are several."""
    if variant is not None:
        load_variant(variant)
    opened = GgufModel(model, n_ctx=N_CTX, n_threads=1)
    wanted = [*[False] * PROMPT_TOKENS, True]
    for blocks in (opened.logits([1] * len(wanted), wanted), opened.logits([1], [True])):
        list(blocks)


if __name__ == "__main__":
    compute_a_token(*map(Path, sys.argv[1:3]))
