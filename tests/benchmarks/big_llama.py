"""A Llama-3.2-1B in shape, with random weights: as large and as slow as the real one, and nobody's property.

Its vocabulary has as many tokens as the real one (128,256). Each word of two syllables is one token, so a prompt of so
many words has so many tokens. Sizes: https://huggingface.co/meta-llama/Llama-3.2-1B/blob/main/config.json
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

from components.runtime.cores import usable_cores

N_VOCAB = 128_256
N_EMBD, N_LAYER, N_HEAD, N_HEAD_KV, N_FFN = 2048, 16, 32, 8, 8192
HEAD = N_EMBD // N_HEAD
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiou"
SYLLABLES = [consonant + vowel for consonant in CONSONANTS for vowel in VOWELS]
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
STD = 0.02


def words(n: int, seed: int) -> str:
    """``n`` words, each one token with the space before it."""
    draw = random.Random(seed)
    return " ".join(draw.choice(SYLLABLES) + draw.choice(SYLLABLES) for _ in range(n))


def make(path: Path, quantization: str = "Q4_K_M") -> Path:
    """The quantized file at ``path``, made once; takes about two minutes and 3 GB of disk on the way."""
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    f16 = path.with_suffix(".f16")
    _write(f16)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization}")
    parameters.nthread = usable_cores()
    made = path.with_suffix(".part")
    status = llama_cpp.llama_model_quantize(str(f16).encode(), str(made).encode(), ctypes.byref(parameters))
    assert status == 0, f"llama.cpp cannot quantize {f16} (status {status})"
    f16.unlink()
    return made.rename(path)


def _write(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random Llama of 1.24 billion parameters")
    writer.add_context_length(131_072)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_LAYER)
    writer.add_feed_forward_length(N_FFN)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD_KV)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(N_VOCAB)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_tokenizer(writer)
    numbers = np.random.default_rng(0)
    for name, shape in _tensors():
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, dtype=np.float32))
        else:
            writer.add_tensor(name, (numbers.standard_normal(shape, dtype=np.float32) * STD).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (N_VOCAB, N_EMBD)
    yield "output_norm.weight", (N_EMBD,)
    for layer in range(N_LAYER):
        for name, shape in (
            ("attn_norm", (N_EMBD,)),
            ("attn_q", (N_EMBD, N_EMBD)),
            ("attn_k", (N_HEAD_KV * HEAD, N_EMBD)),
            ("attn_v", (N_HEAD_KV * HEAD, N_EMBD)),
            ("attn_output", (N_EMBD, N_EMBD)),
            ("ffn_norm", (N_EMBD,)),
            ("ffn_gate", (N_FFN, N_EMBD)),
            ("ffn_up", (N_FFN, N_EMBD)),
            ("ffn_down", (N_EMBD, N_FFN)),
        ):
            yield f"blk.{layer}.{name}.weight", shape


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    """Bytes, syllables, words of two syllables with and without a space before them, and fillers up to the size."""
    space = "\u0120"  # how byte-level tokenizers write a space
    whole = [first + second for first in SYLLABLES for second in SYLLABLES]
    tokens = [*_bytes(), *SYLLABLES, *whole, *(space + word for word in whole)]
    tokens += [f"{space}word{number}" for number in range(N_VOCAB - len(tokens) - len(SPECIAL))]
    types = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * len(SPECIAL)
    merges = [f"{syllable[0]} {syllable[1]}" for syllable in SYLLABLES]
    merges += [f"{word[:2]} {word[2:]}" for word in whole] + [f"{space} {word}" for word in whole]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([*tokens, *SPECIAL])
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens))
    writer.add_eos_token_id(len(tokens) + 4)
    writer.add_chat_template(TEMPLATE)


def _bytes() -> list[str]:
    """The 256 characters that stand for bytes in GPT-2's tokenizer: printable ones for themselves."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
