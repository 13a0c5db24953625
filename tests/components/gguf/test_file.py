"""Damaged and hostile GGUF files: each is refused with a reason, and nothing crashes."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Callable

import pytest
from gguf import GGUFReader

from components.errors import ModelError
from components.gguf.file import check_file
from tests.gguf_files import write

Damage = Callable[[bytearray], bytearray]
N_TENSORS, N_KEYS, FIRST_KEY = 8, 16, 24


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    """A small file that passes: a vocabulary of 3, four tensors."""
    path = tmp_path_factory.mktemp("gguf") / "good.gguf"
    write(path)
    check_file(path)
    return path.read_bytes()


def put(at: int, form: str, value: float) -> Damage:
    def damage(content: bytearray) -> bytearray:
        struct.pack_into("<" + form, content, at, value)
        return content

    return damage


def after(text: bytes, offset: int, form: str, value: float) -> Damage:
    """Overwrite ``offset`` bytes after the end of the first ``text``."""

    def damage(content: bytearray) -> bytearray:
        at = content.index(text) + len(text) + offset
        struct.pack_into("<" + form, content, at, value)
        return content

    return damage


def replace(old: bytes, new: bytes) -> Damage:
    return lambda content: bytearray(bytes(content).replace(old, new))


def cut(n: int) -> Damage:
    return lambda content: content[:n]


EMBEDDING, NORM = b"token_embd.weight", b"output_norm.weight"
LENGTH, HEADS, KV, BLOCKS = (
    b"llama." + name
    for name in (b"context_length", b"attention.head_count", b"attention.head_count_kv", b"block_count")
)
TOKENS, SCORES, EOS = (b"tokenizer.ggml." + name for name in (b"tokens", b"scores", b"eos_token_id"))

DAMAGES: dict[str, tuple[Damage, str]] = {
    "another magic": (replace(b"GGUF", b"GGML"), "not a GGUF file"),
    "the other byte order": (put(4, "I", 0x03000000), "version 50331648; this reads 2 and 3"),
    "version 1": (put(4, "I", 1), "version 1; this reads"),
    "version 99": (put(4, "I", 99), "version 99"),
    "only a magic": (cut(4), "it ends within the version"),
    "no counts": (cut(8), "it ends within the counts"),
    "half a count": (cut(20), "it ends within the counts"),
    "no keys": (cut(24), "it ends within a key"),
    "half of the keys": (cut(300), "it ends within"),
    "no tensors' data": (lambda content: content[: content.index(NORM)], "it ends within|its tensors need"),
    "all but the last byte": (lambda content: content[:-33], "its tensors need"),
    "no tensors": (put(N_TENSORS, "Q", 0), "no tensors"),
    "more tensors than are there": (put(N_TENSORS, "Q", 9), "it ends within|has the shape|dimensions|no text|bytes"),
    "more tensors than memory": (put(N_TENSORS, "Q", 2**60), "tensors, more than"),
    "no keys counted": (put(N_KEYS, "Q", 0), "no general.architecture"),
    "more keys than are there": (put(N_KEYS, "Q", 12), "it ends within|unknown type|bytes"),
    "more keys than memory": (put(N_KEYS, "Q", 2**63), "keys, more than"),
    "a key of the largest length": (put(FIRST_KEY, "Q", 2**64 - 1), "a key of 18446744073709551615 bytes"),
    "a key longer than the file": (put(FIRST_KEY, "Q", 65_000), "it ends within a key"),
    "a key that is no text": (put(FIRST_KEY + 8, "B", 0xFF), "a key is no text"),
    "a key twice": (replace(b"llama.block_count", b"general.architect"), "no general|missing|twice|unknown"),
    "an unknown type of a value": (after(LENGTH, 0, "I", 77), "has the unknown type 77"),
    "a string as a context length": (after(LENGTH, 0, "I", 8), "it ends within|no whole number"),
    "a float as a context length": (after(LENGTH, 0, "I", 6), "llama.context_length is no whole number"),
    "a context of nothing": (after(LENGTH, 4, "I", 0), "llama.context_length is 0, not between 1 and"),
    "a context without end": (after(LENGTH, 4, "I", 2**32 - 1), "llama.context_length is 4294967295"),
    "no layers": (after(BLOCKS, 4, "I", 0), "llama.block_count is 0"),
    "layers without end": (after(BLOCKS, 4, "I", 2**31), "llama.block_count is 2147483648"),
    "no heads": (after(HEADS, 4, "I", 0), "llama.attention.head_count is 0"),
    "no key-value heads": (after(KV, 4, "I", 0), "llama.attention.head_count_kv is 0"),
    "another architecture's keys": (replace(b"llama.context", b"lxama.context"), "llama.context_length is missing"),
    "no vocabulary": (replace(TOKENS, b"tokenizer.ggml.tikens"), r"no vocabulary"),
    "a vocabulary without end": (after(TOKENS, 8, "Q", 2**61), "items in 'tokenizer.ggml.tokens', more than"),
    "a vocabulary longer than the file": (after(TOKENS, 8, "Q", 9_000_000), "it ends within"),
    "a vocabulary of unknown things": (after(TOKENS, 4, "I", 99), "has the unknown type 99"),
    "a vocabulary of arrays": (after(TOKENS, 4, "I", 9), "it ends within|arrays in arrays|more than|unknown"),
    "a token longer than the file": (after(TOKENS, 16, "Q", 2**62), "it ends within 'tokenizer.ggml.tokens'"),
    "fewer scores than tokens": (after(SCORES, 8, "Q", 2), "no list of 3|unknown type|it ends|bytes"),
    "an end that is no token": (after(EOS, 4, "I", 3), "eos_token_id is 3, and there are 3 tokens"),
    "a tensor without dimensions": (after(EMBEDDING, 0, "I", 0), "'token_embd.weight' has 0 dimensions"),
    "a tensor of many dimensions": (after(EMBEDDING, 0, "I", 9), "'token_embd.weight' has 9 dimensions"),
    "a tensor of nothing": (after(EMBEDDING, 4, "Q", 0), "'token_embd.weight' has the shape"),
    "sizes that overflow": (after(EMBEDDING, 4, "Q", 2**63), "'token_embd.weight' has the shape"),
    "sizes whose product overflows": (after(EMBEDDING, 12, "Q", 2**62), "'token_embd.weight' has the shape"),
    "more than the file holds": (after(EMBEDDING, 12, "Q", 4), "overlap|its tensors need"),
    "an unknown type of a tensor": (after(EMBEDDING, 20, "I", 999), "has the unknown type 999"),
    "a negative type": (after(EMBEDDING, 20, "i", -1), "has the unknown type 4294967295"),
    "rows that are no blocks": (after(EMBEDDING, 20, "I", 12), "no multiple of 256"),
    "an offset outside the file": (after(EMBEDDING, 24, "Q", 2**40), "lies at 1099511627776, outside the file"),
    "an offset that overflows": (after(EMBEDDING, 24, "Q", 2**64 - 32), "outside the file or not aligned"),
    "an offset that is not aligned": (after(EMBEDDING, 24, "Q", 7), "lies at 7, outside the file or not aligned"),
    "tensors that overlap": (after(NORM, 16, "Q", 0), "overlap"),
    "a tensor twice": (replace(b"extra.1", b"extra.2"), "the tensor 'extra.2' is there twice"),
    "a name of the largest length": (
        lambda content: put(content.index(EMBEDDING) - 8, "Q", 2**64 - 1)(content),
        "a tensor's name of 18446744073709551615 bytes",
    ),
    "an empty file": (cut(0), "not a GGUF file"),
}


def test_at_least_40_kinds_are_tried():
    assert len(DAMAGES) >= 40


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_refused_with_its_reason(good, tmp_path, name):
    damage, reason = DAMAGES[name]
    path = tmp_path / "model.gguf"
    content = bytes(damage(bytearray(good)))
    assert content != good
    path.write_bytes(content)
    with pytest.raises(ModelError, match=reason) as refused:
        check_file(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_an_alignment_of_nothing_is_refused(tmp_path):
    path = write(tmp_path / "model.gguf", lambda writer: writer.add_uint32("general.alignment", 0))
    with pytest.raises(ModelError, match=r"general.alignment is 0"):
        check_file(path)


def test_every_cut_and_every_flipped_byte_of_a_head_is_refused_or_read_but_never_crashes(good, tmp_path):
    path = tmp_path / "model.gguf"
    refused = 0
    for at in range(4, len(good) - 600, 7):
        for content in (good[:at], good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]):
            path.write_bytes(content)
            try:
                check_file(path)
            except ModelError:
                refused += 1
    assert refused > 100


SERVE = [sys.executable, "-m", "pipelines.cli", "serve", "--port", "0"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("blk.0.attn_q.weight", r"llama.cpp cannot load it \(.*tensor 'blk.0.attn_q.weight' not found"),
        ("tokenizer.ggml.pre", r"llama.cpp cannot load it \(.*"),
    ],
)
def test_what_the_head_does_not_show_llama_says_and_the_server_repeats_it(tiny_run, tmp_path, damage, reason):
    """The file of the tiny run with one name misspelt."""
    path = tmp_path / "model.gguf"
    content = tiny_run.model.read_bytes()
    assert damage.encode() in content
    path.write_bytes(content.replace(damage.encode(), damage[:-1].encode() + b"_", 1))
    if damage == "tokenizer.ggml.pre":
        path.write_bytes(content.replace(b"llama-bpe", b"llama-xyz", 1))
    done = subprocess.run([*SERVE[:-1], "18999", str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert re.search(reason, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_real_file_passes_as_the_gguf_package_reads_it(tiny_run):
    checked = check_file(tiny_run.model)
    fields = GGUFReader(tiny_run.model).fields
    assert checked.context_length == fields["llama.context_length"].contents()


@pytest.mark.parametrize("n_bytes", [4, 12, 2**21])
def test_an_alignment_that_no_file_has_is_refused(tmp_path, n_bytes):
    path = write(tmp_path / "model.gguf", lambda writer: writer.add_uint32("general.alignment", n_bytes))
    with pytest.raises(ModelError, match=rf"general.alignment is {n_bytes}"):
        check_file(path)


def test_a_count_for_each_layer_is_as_good_as_one(tmp_path):
    def per_layer(writer: object) -> None:
        writer.add_array("llama.attention.head_count_kv", [2, 2])  # type: ignore[attr-defined]

    path = write(tmp_path / "model.gguf", per_layer, with_kv=False)
    assert check_file(path).context_length == 64


def test_without_a_count_of_key_value_heads_that_of_heads_holds(tmp_path):
    assert check_file(write(tmp_path / "model.gguf", with_kv=False)).context_length == 64


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3", "lorry"])
def test_the_counts_are_those_of_the_files_own_architecture(tmp_path, architecture):
    assert check_file(write(tmp_path / "model.gguf", architecture=architecture)).context_length == 64
