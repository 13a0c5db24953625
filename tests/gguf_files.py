"""Small GGUF files, written as the tests need them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGUFWriter


def write(
    path: Path,
    change: Callable[[GGUFWriter], None] = lambda _: None,
    architecture: str = "llama",
    tokenizer_model: str = "gpt2",
    *,
    with_kv: bool = True,
) -> Path:
    """A GGUF file with a vocabulary of 3 and four tensors of zeros, and what ``change`` adds.

    ``with_kv``: it has a count of key-value heads.
    """
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_head_count(4)
    if with_kv:
        writer.add_head_count_kv(2)
    writer.add_tokenizer_model(tokenizer_model)
    writer.add_token_list(["a", "b", "c"])
    writer.add_token_scores([0.0, 0.0, 0.0])
    writer.add_eos_token_id(2)
    writer.add_tensor("token_embd.weight", np.zeros((3, 32), dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.zeros(32, dtype=np.float32))
    for name in ("extra.1", "extra.2"):
        writer.add_tensor(name, np.zeros(8, dtype=np.float32))
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
