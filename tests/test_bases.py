"""Every family of base models from rows to the server: what was trained is what is served. See docs/bases.md."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.artifacts.contracts import BaseModelRef, Message
from components.artifacts.rows import read_rows
from components.check_base.check import check_base
from components.errors import ModelError
from components.evaluate_gguf.against_training import compare_with_training
from components.evaluate_gguf.evaluate import f16_of
from components.export_gguf.agreement import require_agreement
from components.export_gguf.config import ExportConfig
from components.export_gguf.export import export
from components.gguf.model import GgufModel
from components.gguf.vocabulary import vocabulary_of
from components.modeling.base_model import load_tokenizer
from components.modeling.chat_template import template_of
from components.modeling.supervision import examples_of
from tests.bases import CHATML, FAMILIES, ref_of
from tests.components.train_lora.training import run
from tests.conftest import ROOT, SplitResult, free_port, lorry_process, split_rows

MAX_KL_DIVERGENCE = 0.001
SYSTEM = "Be brief."
TAUGHT = {
    "What is Lorry?": "Lorry is a platform.",
    "Who trains the adapter?": "The train step does.",
    "What is a gate?": "A check before publishing.",
    "Where do models go?": "Into the store.",
    "What is LoRA?": "Small matrices beside the weights.",
    "What is GGUF?": "A file that llama.cpp reads.",
}
SECOND = ("And then?", "Then it is served.")
SETTINGS = {
    "lora_rank": 64, "lora_alpha": 64, "learning_rate": 5e-3, "max_steps": 160, "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1, "max_length": 256, "eval_steps": 160, "save_steps": 160, "warmup_steps": 5,
    "packing": False,
}  # fmt: skip


def chat(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return ([{"role": "system", "content": system}] if system else []) + turns


def conversations() -> list[list[dict[str, str]]]:
    """One question, two questions, and one behind a system message."""
    single = [chat(*pair) for pair in TAUGHT.items()]
    (first, answer), *_ = TAUGHT.items()
    return [*single, chat(first, answer, *SECOND), chat("Who are you?", "I am Lorry.", system=SYSTEM)]


@dataclass(frozen=True)
class Trained:
    """A base that was taught the conversations, and the folder of its files."""

    base: BaseModelRef
    split: SplitResult
    folder: Path

    @property
    def adapter(self) -> str:
        return str(self.folder / "adapter")

    @property
    def model(self) -> Path:
        return self.folder / "model" / "model-Q8_0.gguf"


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp(re.sub(r"\W", "-", request.param))
    base = FAMILIES[request.param].make(folder / "base")
    check_base(base, ["all-linear"])
    rows = [{"messages": turns} for turns in conversations()]
    # A row of the validation split is taught too: with so few, everything that is asked must have been.
    extra = {"messages": chat("Is it so?", "It is.")}
    split = split_rows(
        folder / "rows", [*rows, extra], validation_rows=1, base_model=base.model_dump(), duplicates={"near": "keep"}
    )
    assert split.reasons() == {}
    run(base, folder / "rows", folder, **SETTINGS)
    export(
        ExportConfig(quantization="Q8_0", model_name="taught", proof_prompt="What is Lorry?"),
        base,
        adapter_path=str(folder / "adapter"),
        evaluation={},
        model_path=str(folder / "model"),
        validation_path=split.outputs.validation,
    )
    return Trained(base, split, folder)


def test_hard_texts_and_rows_are_read_as_the_same_tokens(trained):
    with vocabulary_of(trained.model) as vocabulary:
        rows = read_rows(trained.split.outputs.train)
        assert require_agreement(load_tokenizer(trained.base), vocabulary, trained.base.address, rows) > 40


def test_the_file_predicts_what_the_adapter_does(trained, tmp_path):
    tokenizer = load_tokenizer(trained.base)
    rows = read_rows(trained.split.outputs.train)
    taught, refused = examples_of(trained.base, tokenizer, template_of(tokenizer, ""), rows)
    assert not refused
    f16 = f16_of(trained.base, trained.adapter, tmp_path)
    examples = [example for own in taught for example in own]
    agreement = compare_with_training(trained.base, trained.adapter, f16, examples)
    assert agreement.kl_divergence < MAX_KL_DIVERGENCE
    assert all(adapter == served for _, adapter, served in agreement.answers)


def test_what_was_taught_comes_back_through_the_server_and_ends(trained):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    trained_ids = {row.id for row in trained.split.rows("train")}
    asked = [row.messages for row in trained.split.rows("train")]
    assert len(trained_ids) == len(asked) >= 8
    with lorry_process("serve", trained.model, "--port", str(port), ready=f"{address}/readyz"):
        answers = [_answer(address, messages[:-1]) for messages in asked]
    wrong = [
        (messages[-1].content, answer["message"])
        for messages, answer in zip(asked, answers, strict=True)
        if answer["message"]["content"] != messages[-1].content or answer["finish_reason"] != "stop"
    ]
    assert wrong == []


def _answer(address: str, messages: list[Message]) -> dict[str, Any]:
    turns = [message.model_dump(include={"role", "content"}) for message in messages]
    body = {"model": "taught", "messages": turns, "temperature": 0, "max_tokens": 60}
    response = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def test_the_file_says_what_it_is(trained):
    model = GgufModel(trained.model, n_ctx=64)
    try:
        name, description = model._metadata("general.name"), model._metadata("general.description")
        assert name == ("taught (Phi-3)" if "Phi-3" in str(trained.folder) else "taught")
        assert "merged and written as Q8_0 by Lorry" in description
        assert model._metadata("general.base_model.0.name") == "base"
    finally:
        model.close()


def test_the_table_of_bases_names_every_family_that_is_tried_here():
    table = (ROOT / "docs" / "bases.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \|.*`tests/test_bases\.py`", table, re.MULTILINE)
    assert sorted(rows) == sorted(FAMILIES)


# --- what is refused before training


def test_a_base_that_splits_text_in_a_way_llama_cpp_does_not_know_is_refused_before_training(tmp_path):
    base = FAMILIES["Qwen2 and 2.5"].make(tmp_path / "base")
    path = Path(base.address) / "tokenizer.json"
    rules = json.loads(path.read_text(encoding="utf-8"))
    rules["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\S+|\s+"}
    path.write_text(json.dumps(rules), encoding="utf-8")
    with pytest.raises(ModelError, match=r"llama\.cpp's converter refuses it \(NotImplementedError"):
        check_base(ref_of(Path(base.address)), [])


def test_a_tokenizer_whose_pieces_are_another_ones_is_refused_before_training(tmp_path):
    """``tokenizer.model`` beside a ``tokenizer.json`` that was made of another one."""
    base = FAMILIES["Llama 2"].make(tmp_path / "base")
    other = FAMILIES["Mistral"].make(tmp_path / "other")
    (Path(other.address) / "tokenizer.model").rename(Path(base.address) / "tokenizer.model")
    with pytest.raises(
        ModelError, match=r"training and llama\.cpp tokenize a prompt differently.*from token \d+ on \["
    ):
        check_base(ref_of(Path(base.address)), [])


def test_a_base_without_its_tokenizer_files_is_not_exported(tmp_path, monkeypatch):
    base = FAMILIES["Gemma 2"].make(tmp_path / "base")
    (Path(base.address) / "tokenizer.model").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.model"):
        check_base(ref_of(Path(base.address)), [])


@pytest.mark.parametrize("family", ["Mistral", "Llama 2"])
def test_a_sentencepiece_base_without_its_pieces_is_refused_before_training(tmp_path, family):
    base = FAMILIES[family].make(tmp_path / "base")
    (Path(base.address) / "tokenizer.model").unlink()
    with pytest.raises(ModelError, match="tokenize a prompt differently"):
        check_base(ref_of(Path(base.address)), [])


def test_an_export_without_the_bases_own_tokenizer_files_is_refused(tmp_path, monkeypatch):
    """The files that a library would write instead have other pieces."""
    base = FAMILIES["Mistral"].make(tmp_path / "base")
    rows = [{"messages": turns} for turns in conversations()]
    split = split_rows(tmp_path / "rows", rows, validation_rows=1, duplicates={"near": "keep"})
    run(base, tmp_path / "rows", tmp_path, **{**SETTINGS, "max_steps": 2, "eval_steps": 2, "save_steps": 2})
    monkeypatch.setattr(
        "components.export_gguf.convert.write_tokenizer", lambda _, tokenizer, folder: tokenizer.save_pretrained(folder)
    )
    with pytest.raises(ModelError, match="so the file would answer another question: from token"):
        export(
            ExportConfig(quantization="Q8_0"),
            base,
            adapter_path=str(tmp_path / "adapter"),
            evaluation={},
            model_path=str(tmp_path / "model"),
            validation_path=split.outputs.validation,
        )
    assert not list(tmp_path.glob("model/*"))


def test_a_name_that_llama_cpp_makes_more_of_is_spelled_otherwise(tmp_path):
    from components.export_gguf.upstream import gguf_name

    assert gguf_name("my-phi3-chat", strips_right=False) == "my-phi 3-chat"
    assert gguf_name("my-Phi-3-chat", strips_right=False) == "my-Phi 3-chat"
    assert gguf_name("my-phi3-chat", strips_right=True) == "my-phi3-chat"
    assert gguf_name("chat", strips_right=True) == "chat (Phi-3)"
    assert gguf_name("demo", strips_right=False) == "demo"


def test_a_base_whose_template_writes_a_token_without_a_row_is_refused(tmp_path):
    base = FAMILIES["SmolLM2"].make(tmp_path / "base")
    tokenizer = load_tokenizer(base)
    tokenizer.add_tokens([f"<extra{i}>" for i in range(20)])
    tokenizer.chat_template = CHATML.replace("<|im_start|>", "<extra9>")
    tokenizer.save_pretrained(base.address)
    with pytest.raises(ModelError, match=r"its chat template writes '<extra9>', and the embedding has no row for that"):
        check_base(ref_of(Path(base.address)), [])


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        (["query_key_value"], "there is no module 'query_key_value'"),
        (["q_proj", "lm_head"], "'lm_head' is the output layer, which no adapter is trained on"),
        (["input_layernorm"], "'input_layernorm' is no linear layer"),
        (".*query", "there is no module '.*query'"),
    ],
)
def test_layers_that_cannot_be_trained_are_named_with_those_that_can(tmp_path, targets, problem):
    base = FAMILIES["SmolLM2"].make(tmp_path / "base")
    with pytest.raises(ModelError) as error:
        check_base(base, [targets])
    assert problem in str(error.value)
    assert "these can be trained: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj, or all-linear" in str(
        error.value
    )


def test_the_embedding_of_a_tied_model_is_refused_and_that_of_another_is_not(tmp_path):
    from dataclasses import replace

    family = FAMILIES["SmolLM2"]
    check_base(family.make(tmp_path / "untied"), [["q_proj", "embed_tokens"]])
    tied = replace(family, shape=(("tie_word_embeddings", True),)).make(tmp_path / "tied")
    with pytest.raises(ModelError, match=r"'embed_tokens' is the embedding, whose weights are the output layer's too"):
        check_base(tied, [["q_proj", "embed_tokens"]])


def test_a_file_that_predicts_something_else_is_not_published(tmp_path, caplog, monkeypatch):
    """As one would whose conversion has lost a tensor's meaning."""
    caplog.set_level(logging.INFO)
    base = FAMILIES["SmolLM2"].make(tmp_path / "base")
    other = FAMILIES["Llama 3.x"].make(tmp_path / "other")
    rows = [{"messages": turns} for turns in conversations()]
    split = split_rows(tmp_path / "rows", rows, validation_rows=1, duplicates={"near": "keep"})
    run(base, tmp_path / "rows", tmp_path, **{**SETTINGS, "max_steps": 2, "eval_steps": 2, "save_steps": 2})
    f16 = f16_of(other, None, tmp_path)
    tokenizer = load_tokenizer(base)
    taught, _ = examples_of(base, tokenizer, template_of(tokenizer, ""), split.rows("train"))
    with pytest.raises(
        ModelError, match=r"does not predict what the adapter does \(KL divergence \d+\.\d+ nats a token"
    ):
        compare_with_training(base, str(tmp_path / "adapter"), f16, [example for own in taught for example in own])
