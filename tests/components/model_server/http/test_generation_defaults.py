"""Defaults of generation: from the base's generation_config through recipe and manifest to the request."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.artifacts.contracts import BaseModelRef, GenerationDefaults
from components.errors import ModelError
from components.export_gguf.config import ExportConfig
from components.model_server.http.protocol.chat_completion import ChatCompletionRequest
from components.model_server.http.protocol.completion import CompletionRequest
from components.model_server.http.served_model import ServedModel
from components.modeling.base_model import folder_revision, load_generation
from components.modeling.chat_template import Edges

HELLO = [{"role": "user", "content": "Hello"}]
LLAMA = GenerationDefaults(temperature=0.6, top_p=0.9, max_tokens=64)


def base_with(folder: Path, generation_config: str | None) -> BaseModelRef:
    """A base model of which only this file is read."""
    (folder / "config.json").write_text("{}")
    if generation_config is not None:
        (folder / "generation_config.json").write_text(generation_config)
    return BaseModelRef(address=str(folder), revision=folder_revision(folder), weight_bytes=0)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (None, {}),
        ({}, {}),
        ({"bos_token_id": 1, "eos_token_id": [2, 3]}, {}),
        (
            {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "max_new_tokens": 2048},
            {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "max_tokens": 2048},
        ),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"do_sample": False}, {"temperature": 0.0}),
        (
            {"do_sample": False, "temperature": 0.6, "top_k": 20, "repetition_penalty": 1.05},
            {"temperature": 0.0, "repetition_penalty": 1.05},
        ),
    ],
)
def test_the_bases_generation_config_is_read_by_our_names(tmp_path, written, expected):
    base = base_with(tmp_path, None if written is None else json.dumps(written))
    assert load_generation(base) == GenerationDefaults(**expected)


@pytest.mark.parametrize(("written", "temperature"), [('{"temperature": 0.6}', 0.6), (None, None)])
def test_of_a_hub_model_the_file_of_its_commit_is_read(tmp_path, monkeypatch, written, temperature):
    commit = "c" * 40
    snapshot = tmp_path / "models--owner--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    if written is not None:
        (snapshot / "generation_config.json").write_text(written)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    base = BaseModelRef(address="owner/name", revision=commit, weight_bytes=0)
    assert load_generation(base) == GenerationDefaults(temperature=temperature)


def test_what_is_out_of_bounds_is_left_out_and_logged(tmp_path, caplog):
    base = base_with(tmp_path, '{"temperature": 9, "top_k": -1, "top_p": NaN, "min_p": "x", "repetition_penalty": 1.2}')
    with caplog.at_level(logging.WARNING, "components.modeling.base_model"):
        assert load_generation(base) == GenerationDefaults(repetition_penalty=1.2)
    assert caplog.messages == [
        f"generation_config.json: its {name} is out of bounds and left out"
        for name in ("min_p", "temperature", "top_k", "top_p")
    ]


@pytest.mark.parametrize("text", ["{nope", "[]", '{"max_new_tokens": -3}', '{"watermarking_config": 3}'])
def test_a_broken_generation_config_is_one_line_that_names_it(tmp_path, text):
    base = base_with(tmp_path, text)
    with pytest.raises(ModelError, match=r"^base_model .*: its generation_config.json cannot be loaded \(.*\)$"):
        load_generation(base)


def test_the_recipe_overrides_the_base():
    config = ExportConfig.model_validate({"generation": {"temperature": 0, "top_k": 5}})
    held = LLAMA.overridden_by(config.generation.model_dump())
    assert held == GenerationDefaults(temperature=0, top_p=0.9, top_k=5, max_tokens=64)


@pytest.mark.parametrize(
    "settings",
    [
        {"example_prompts": ["x"] * 9},
        {"example_prompts": [""]},
        {"example_prompts": ["x" * 201]},
        {"generation": {"temperature": 3}},
        {"generation": {"temprature": 1}},
    ],
)
def test_a_recipe_out_of_bounds_is_refused(settings):
    with pytest.raises(ValidationError):
        ExportConfig.model_validate(settings)


def served(generation: GenerationDefaults) -> ServedModel:
    return ServedModel("m", (), generation, (), {}, lambda _: False, Edges(), None)


def test_a_setting_that_is_absent_or_null_has_its_default():
    for fields in ({}, {"temperature": None, "top_p": None, "top_k": None, "max_tokens": None}):
        request = ChatCompletionRequest(model="m", messages=HELLO, **fields)
        asked = request.to_engine("", served(LLAMA))
        assert (asked.sampling.temperature, asked.sampling.top_p, asked.max_tokens) == (0.6, 0.9, 64)
        plain = request.to_engine("", served(GenerationDefaults()))
        assert (plain.sampling.temperature, plain.sampling.top_p, plain.max_tokens) == (1.0, 1.0, None)
        assert (plain.sampling.top_k, plain.sampling.min_p, plain.sampling.repetition_penalty) == (0, 0.0, 1.0)


def test_a_setting_of_the_request_is_kept_also_at_its_neutral_value():
    defaults = GenerationDefaults(temperature=0, top_k=5, min_p=0.2, repetition_penalty=1.3, max_tokens=64)
    given = {"temperature": 1.5, "top_k": 0, "min_p": 0, "repetition_penalty": 1}
    asked = ChatCompletionRequest(model="m", messages=HELLO, max_completion_tokens=9, **given).to_engine(
        "", served(defaults)
    )
    assert {name: getattr(asked.sampling, name) for name in given} == given
    assert asked.max_tokens == 9


def test_a_text_is_continued_by_16_tokens_whatever_the_models_own_limit():
    asked = CompletionRequest(model="m", prompt="Lorry").to_engine("", served(LLAMA))
    assert (asked.max_tokens, asked.sampling.temperature) == (16, 0.6)
