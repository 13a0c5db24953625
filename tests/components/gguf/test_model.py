"""A loaded model: its context's bounds, its logits block by block, and what it generates."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from components.artifacts.contracts import Message
from components.errors import ModelError
from components.gguf.model import LOGITS_BLOCK, GgufModel, TextStream
from components.gguf.sampling import Sampling

TOKENS = [5 + n % 200 for n in range(100)]
TRAINED = 512


@pytest.fixture(scope="module")
def model(tiny_run) -> Iterator[GgufModel]:
    model = GgufModel(tiny_run.model, n_ctx=256)
    yield model
    model.close()


def all_logits(model: GgufModel, tokens: list[int], wanted: list[bool] | None = None) -> np.ndarray:
    return np.concatenate(list(model.logits(tokens, wanted or [True] * len(tokens))))


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for rounding: which kernels compute a token depends on the batch."""
    return bool(np.abs(one - other).max() < 0.2)


@pytest.mark.parametrize(("asked", "n_ctx"), [(0, TRAINED), (64, 64), (100, 100), (TRAINED + 1, TRAINED)])
def test_a_context_is_as_long_as_asked_and_never_longer_than_trained(tiny_run, asked, n_ctx):
    model = GgufModel(tiny_run.model, n_ctx=asked, n_parallel=3, n_threads=2)
    try:
        assert (model.n_ctx, model.context_length) == (n_ctx, TRAINED)
        assert (model.context.n_parallel, model.context.n_threads) == (3, 2)
    finally:
        model.close()


def test_a_model_knows_its_size(model, tiny_run):
    assert 0 < model.size_bytes <= tiny_run.model.stat().st_size
    assert model.n_parameters > model.n_vocab
    assert model.manifest is not None
    assert model.manifest.file == tiny_run.model.name


def test_logits_come_in_blocks_of_the_wanted_positions(model):
    wanted = [n % 3 == 0 for n in range(len(TOKENS))]
    blocks = list(model.logits(TOKENS, wanted))
    assert [block.shape for block in blocks] == [(22, model.n_vocab), (12, model.n_vocab)]
    assert close(np.concatenate(blocks), all_logits(model, TOKENS)[wanted])


def test_blocks_without_a_wanted_position_are_left_out(model):
    wanted = [False] * len(TOKENS)
    assert list(model.logits(TOKENS, wanted)) == []
    wanted[LOGITS_BLOCK] = True
    assert [block.shape[0] for block in model.logits(TOKENS, wanted)] == [1]


def test_logits_are_the_same_in_small_batches(model, tiny_run):
    small = GgufModel(tiny_run.model, n_ctx=256, n_batch=16)
    try:
        assert close(all_logits(small, TOKENS), all_logits(model, TOKENS))
    finally:
        small.close()


def test_logits_depend_on_what_comes_before_and_not_on_what_follows(model):
    whole = all_logits(model, TOKENS)
    assert close(all_logits(model, TOKENS[:40]), whole[:40])
    assert not close(all_logits(model, [TOKENS[9], *TOKENS[1:40]])[1], whole[1])


def test_greedy_tokens_are_the_likeliest_after_what_was_generated(model):
    prompt = model.prompt_tokens([Message(role="user", content="Hello")])
    generated = list(islice(model.generate(prompt, Sampling()), 6))
    logits = all_logits(model, [*prompt, *generated])
    assert [int(row.argmax()) for row in logits[len(prompt) - 1 : -1]] == generated


def test_an_answer_begins_anew_whatever_was_computed_before(model):
    prompt = TOKENS[:20]
    first = list(islice(model.generate(prompt, Sampling()), 5))
    all_logits(model, TOKENS)
    assert list(islice(model.generate(prompt, Sampling()), 5)) == first


def test_a_template_of_ones_own_replaces_the_files(tiny_run):
    model = GgufModel(tiny_run.model, n_ctx=64, template="{% for m in messages %}<{{ m.content }}>{% endfor %}")
    try:
        assert model.prompt([Message(role="user", content="Hi")]) == "<Hi>"
    finally:
        model.close()


def test_a_file_whose_template_is_not_its_manifests_is_refused(tiny_run, tmp_path):
    folder = Path(shutil.copytree(tiny_run.model.parent, tmp_path / "model"))
    manifest = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**manifest, "template_fingerprint": "0" * 64}))
    with pytest.raises(ModelError, match=r"its chat template is not the one that model\.json names; export it again"):
        GgufModel(folder / tiny_run.model.name, n_ctx=64)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"none\.gguf: no such model file; give the path of a \.gguf file"):
        GgufModel(tmp_path / "none.gguf")


def test_a_text_is_the_same_however_its_bytes_are_split():
    draw, text = random.Random(1), "naïve 日本語 😀 end"
    for _ in range(200):
        content, stream, parts = text.encode(), TextStream(), []
        while content:
            n = draw.randrange(1, 6)
            parts.append(stream.feed(content[:n]))
            content = content[n:]
        assert "".join(parts) == text
        assert "\ufffd" not in "".join(parts)


def test_bytes_that_are_no_text_are_replaced_and_the_rest_goes_on():
    stream = TextStream()
    assert stream.feed(b"\xe6\x97") == ""
    assert stream.feed(b"ok") == "\ufffdok"
    assert stream.feed(b"\xff!") == "\ufffd!"
