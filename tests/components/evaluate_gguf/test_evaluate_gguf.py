"""The quantized file against f16: the figures are right, and damage shows in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from components.artifacts.contracts import BaseModelRef
from components.artifacts.rows import write_rows
from components.errors import DataError, GateError
from components.evaluate.config import EvaluateConfig
from components.evaluate_gguf.config import EvaluateGgufConfig
from components.evaluate_gguf.evaluate import evaluate_gguf, measure_quality
from components.export_gguf.convert import quantize
from components.gate.config import GateConfig
from components.gate.gate import require_within
from components.modeling.base_model import folder_revision, load_weights
from components.modeling.token_loss import token_loss
from tests.damage import zero_a_layer

PROMPTS = "- name: greeting\n  turns: [Say hello., Again?]\n"


def measure(tiny_run, base, validation, folder: Path, model: Path | None = None, **settings) -> dict[str, float]:
    prompts = folder / "prompts.yaml"
    prompts.write_text(PROMPTS)
    return evaluate_gguf(
        EvaluateGgufConfig.model_validate(settings),
        EvaluateConfig(prompts=str(prompts), max_new_tokens=5),
        base,
        adapter_path=str(tiny_run.adapter),
        model_path=str(model or tiny_run.model.parent),
        validation_path=str(validation),
        report_path=str(folder / "report.html"),
        answers_path=str(folder / "answers.json"),
    )


def test_f16_perplexity_is_that_of_the_merged_model_in_torch(f16, examples, tmp_path):
    figures = measure_quality(f16, f16, examples).figures
    tokenizer_pad = 0
    model = load_weights(
        BaseModelRef(
            address=str(f16.parent / "merged"), revision=folder_revision(f16.parent / "merged"), weight_bytes=0
        ),
        torch.float32,
    )
    own = token_loss(model, examples, batch_size=2, pad_token_id=tokenizer_pad)
    assert figures["measured_tokens"] == own.n_tokens
    assert figures["f16_perplexity"] == pytest.approx(own.perplexity, rel=2e-3)


def test_a_file_is_no_distance_from_itself(f16, examples):
    figures = measure_quality(f16, f16, examples).figures
    assert figures["kl_divergence"] == 0.0
    assert figures["same_top_token"] == 1.0
    assert figures["perplexity_increase"] == 0.0


def test_fewer_bits_are_farther_from_f16(f16, examples, tmp_path):
    divergences = []
    for quantization in ("Q8_0", "Q4_K_M"):
        quantize(f16, tmp_path / f"{quantization}.gguf", quantization)
        divergences.append(measure_quality(f16, tmp_path / f"{quantization}.gguf", examples).figures["kl_divergence"])
    assert 0 < divergences[0] < divergences[1]


def test_it_measures_quality_size_and_answers_and_leaves_no_f16_file(tiny_run, base, validation, tmp_path):
    figures = measure(tiny_run, base, validation, tmp_path, n_threads=1)
    assert 0 < figures["size_bytes"] < figures["f16_size_bytes"]
    assert figures["n_threads"] == 1
    assert 0 < figures["quantized_first_token_seconds"] <= figures["quantized_seconds_per_answer"]
    assert figures["quantized_seconds_per_answer"] <= figures["quantized_longest_seconds"]
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert [(a["model"], a["turn"]) for a in answers] == [
        (model, turn) for model in ("f16", "quantized") for turn in ("Say hello.", "Again?")
    ]
    assert all(0 < a["n_tokens"] <= 5 for a in answers)
    assert answers[1]["n_prompt_tokens"] > answers[0]["n_prompt_tokens"]
    assert "Say hello." in (tmp_path / "report.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"answers.json", "prompts.yaml", "report.html"}


def test_rows_without_an_answer_of_the_assistant_are_an_error(tiny_run, base, tmp_path):
    write_rows([], str(tmp_path / "rows"))
    with pytest.raises(DataError, match=r"no validation row has a word of the assistant; set split\.validation_rows"):
        measure(tiny_run, base, tmp_path / "rows", tmp_path)


def test_the_gate_refuses_a_model_with_a_zeroed_layer_and_passes_the_good_one(tiny_run, base, validation, tmp_path):
    bounds = GateConfig(max_kl_divergence=0.02, min_same_top_token=0.5)
    good = measure(tiny_run, base, validation, tmp_path)
    assert require_within(bounds, good) == {name: good[name] for name in ("kl_divergence", "same_top_token")}

    damaged = Path(shutil.copytree(tiny_run.model.parent, tmp_path / "damaged"))
    zero_a_layer(damaged, 0)
    bad = measure(tiny_run, base, validation, tmp_path, damaged)
    with pytest.raises(GateError, match=r"not published: kl_divergence is [\d.]+, [\d.]+ above gate.max_kl_divergence"):
        require_within(bounds, bad)
