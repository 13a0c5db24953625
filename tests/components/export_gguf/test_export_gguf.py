"""Export: the merged weights, the converter, the quantized file, and the checks before it is published."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from components.artifacts.contracts import BaseModelRef, GenerationDefaults, Message, ModelManifest, Row
from components.errors import DiskSpaceError, ModelError
from components.export_gguf import export as export_module
from components.export_gguf.config import ExportConfig
from components.export_gguf.convert import convert, merge, quantize
from components.export_gguf.export import answer_once, export
from components.gguf.file import check_file, read_manifest
from components.gguf.model import GgufModel
from components.modeling.base_model import folder_revision, load_tokenizer, load_weights
from components.modeling.chat_template import template_of
from components.modeling.supervision import sequences_of
from components.split_data.formats import messages_of
from components.storage.digests import sha256_of
from tests.conftest import chat_rows

QUANTIZATIONS = ["Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"]


@pytest.fixture(scope="module")
def base(tiny_base) -> BaseModelRef:
    return BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=1000)


@pytest.fixture(scope="module")
def f16(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("f16")
    merge(base, None, folder / "merged")
    convert(folder / "merged", folder / "model-F16.gguf")
    return folder / "model-F16.gguf"


@pytest.fixture
def exported(tiny_run, tmp_path) -> Path:
    """A copy of the exported folder that a test may damage."""
    return Path(shutil.copytree(tiny_run.model.parent, tmp_path / "model"))


def test_the_merged_weights_are_base_plus_scaled_product(base, tiny_run, tmp_path):
    from safetensors.torch import load_file

    merge(base, str(tiny_run.adapter), tmp_path)
    name = "model.layers.0.mlp.down_proj"
    adapter = load_file(tiny_run.adapter / "adapter_model.safetensors")
    config = json.loads((tiny_run.adapter / "adapter_config.json").read_text())
    down = adapter[f"base_model.model.{name}.lora_A.weight"]
    up = adapter[f"base_model.model.{name}.lora_B.weight"]
    before = load_weights(base, torch.float32).get_submodule(name).weight.detach()
    expected = before + (up @ down) * (config["lora_alpha"] / config["r"])
    after = load_file(tmp_path / "model.safetensors")[f"{name}.weight"]
    assert up.abs().max() > 0
    assert torch.equal(after, expected)


def test_the_manifest_describes_the_file(tiny_run):
    manifest = ModelManifest.model_validate_json((tiny_run.model.parent / "model.json").read_bytes())
    assert manifest.sha256 == sha256_of(tiny_run.model)
    assert manifest.size_bytes == tiny_run.model.stat().st_size
    assert manifest.reduction == pytest.approx(1 - manifest.size_bytes / manifest.f16_size_bytes)
    assert manifest.base_license == "apache-2.0"
    assert manifest.example_prompts == ["What is Lorry?"]
    assert manifest.evaluation["tuned_validation_loss"] > 0
    assert {path.name for path in tiny_run.model.parent.iterdir()} == {"model-Q8_0.gguf", "model.json"}
    assert not tiny_run.model.parent.with_name("model.work").exists()


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_each_quantization_is_smaller_than_f16_and_answers(f16, tmp_path, quantization):
    path = tmp_path / f"model-{quantization}.gguf"
    quantize(f16, path, quantization)
    assert path.stat().st_size < f16.stat().st_size
    assert answer_once(path, "Hello")[2].strip()


def test_an_f16_export_keeps_the_weights_whole(base, tiny_run, tmp_path):
    config = ExportConfig(quantization="F16")
    manifest = export(config, base, adapter_path=str(tiny_run.adapter), evaluation={}, model_path=str(tmp_path / "m"))
    assert (manifest.file, manifest.reduction) == ("model-F16.gguf", 0.0)


def test_the_manifest_has_the_bases_settings_with_the_recipes_over_them_and_its_examples(tiny_base, tiny_run, tmp_path):
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    (folder / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "top_p": 0.9}')
    base = BaseModelRef(address=str(folder), revision=folder_revision(folder), weight_bytes=1000)
    config = ExportConfig(
        quantization="F16", example_prompts=["What is Lorry?"], generation=GenerationDefaults(top_p=0.5)
    )
    export(config, base, adapter_path=str(tiny_run.adapter), evaluation={}, model_path=str(tmp_path / "m"))
    manifest = read_manifest(tmp_path / "m" / "model-F16.gguf")
    assert manifest is not None
    assert manifest.example_prompts == ["What is Lorry?"]
    assert manifest.generation == GenerationDefaults(temperature=0.6, top_p=0.5)


def test_a_manifest_that_was_written_before_there_were_defaults_still_loads(exported):
    path = exported / "model.json"
    written = json.loads(path.read_text())
    old = {key: value for key, value in written.items() if key not in ("example_prompts", "generation")}
    assert len(old) == len(written) - 2
    path.write_text(json.dumps(old))
    manifest = check_file(next(exported.glob("*.gguf"))).manifest
    assert manifest is not None
    assert (manifest.example_prompts, manifest.generation) == ([], GenerationDefaults())


def test_prompt_tokens_of_the_served_file_equal_the_tokenizers_on_every_shipped_row(base, f16):
    tokenizer = load_tokenizer(base)
    model = GgufModel(f16)
    for row in chat_rows(400):
        messages = messages_of(row, "messages")
        own = tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"]
        assert model.prompt_tokens(messages, add_generation_prompt=False) == own
        asked = tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True, return_dict=True)
        assert model.prompt_tokens(messages[:-1]) == asked["input_ids"]
    model.close()


@pytest.mark.parametrize(
    "text", ["naïve café 🦙🦙", "3333 333 33", "  two  spaces\n\n\ttab", "I'LL we'Ve", "<|eot_id|> x"]
)
def test_hard_texts_tokenize_alike(base, f16, text):
    tokenizer = load_tokenizer(base)
    messages = [Message(role="user", content=text), Message(role="assistant", content="ok")]
    model = GgufModel(f16)
    own = sequences_of(tokenizer, template_of(tokenizer, ""), Row(id="", messages=messages))[0].input_ids
    assert model.prompt_tokens(messages, add_generation_prompt=False) == own
    model.close()


def test_f16_gives_the_merged_models_top_tokens(base, f16):
    """Teacher-forced over shipped rows; the benchmark does the same on 2,000 positions of the demo's model."""
    import numpy as np
    from llama_cpp import Llama

    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, "")
    model = load_weights(base, torch.float32).eval()
    served = Llama(str(f16), n_ctx=512, logits_all=True, verbose=False, chat_format="chatml")
    same, n = 0, 0
    for row in chat_rows(4):
        ids = sequences_of(tokenizer, template, Row(id="", messages=messages_of(row, "messages")))[0].input_ids
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).logits[0].argmax(-1).numpy()
        served.reset()
        served.eval(ids)
        same += int((np.argmax(served.scores[: len(ids)], axis=-1) == expected).sum())
        n += len(ids)
    served.close()
    assert n > 200
    assert same / n >= 0.99


def test_a_full_disk_is_found_before_work_starts(base, tiny_run, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 2**20))
    monkeypatch.setattr(export_module, "merge", lambda *_: pytest.fail("work began"))
    with pytest.raises(
        DiskSpaceError, match=r"the export needs 0.06 GiB and the disk has 0.00 GiB free; free some space, or"
    ):
        export(ExportConfig(), base, adapter_path=str(tiny_run.adapter), evaluation={}, model_path=str(tmp_path / "m"))
    assert not list(tmp_path.iterdir())


def test_a_model_that_answers_nothing_does_not_pass(f16, monkeypatch):
    monkeypatch.setattr(GgufModel, "is_end", lambda *_: True)
    with pytest.raises(ModelError, match="the finished file answers 'Hello' with nothing; train longer"):
        answer_once(f16, "Hello")


def test_a_long_proof_prompt_is_answered_as_far_as_the_models_context_reaches(f16):
    prompt = "Say it again. " * 60
    model = GgufModel(f16)
    n, context = len(model.prompt_tokens([Message(role="user", content=prompt)])), model.context_length
    model.close()
    assert n > 200
    assert answer_once(f16, prompt)[2].strip()
    with pytest.raises(
        ModelError, match=rf"export\.proof_prompt has \d+ tokens .* does not fit .* context of {context}"
    ):
        answer_once(f16, prompt * 3)


def test_what_the_converter_refuses_leaves_no_file(base, tmp_path):
    merge(base, None, tmp_path / "merged")
    config = tmp_path / "merged" / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "NobodyForCausalLM"))
    with pytest.raises(ModelError, match=r"llama.cpp's converter refuses it .*NobodyForCausalLM"):
        convert(tmp_path / "merged", tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_an_adapter_folder_without_a_record_is_refused(base, tmp_path):
    with pytest.raises(ModelError, match=r"run.json: no such file; this is not an adapter folder"):
        export(ExportConfig(), base, adapter_path=str(tmp_path), evaluation={}, model_path=str(tmp_path / "m"))


def test_a_truncated_file_is_refused_with_and_without_a_manifest(exported):
    path = next(exported.glob("*.gguf"))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ModelError, match=r"but its model.json says \d+: the file is truncated or another one"):
        check_file(path)
    (exported / "model.json").unlink()
    with pytest.raises(ModelError, match="truncated"):
        check_file(path)


def test_a_file_with_another_sha256_is_refused(exported):
    path = next(exported.glob("*.gguf"))
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ModelError, match=r"its sha256 is \w{12}…, but its model.json says \w{12}…: the file was changed"
    ):
        check_file(path)


@pytest.mark.parametrize("size", [0, 3, 10, 40, 200, 3000])
def test_a_stump_of_a_file_is_refused_without_a_crash(exported, size):
    path = next(exported.glob("*.gguf"))
    (exported / "model.json").unlink()
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"not a GGUF file|truncated"):
        check_file(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"none.gguf: no such model file; give the path of a .gguf file"):
        check_file(tmp_path / "none.gguf")


def test_a_template_that_is_not_the_manifests_is_refused(exported):
    manifest_path = exported / "model.json"
    manifest = json.loads(manifest_path.read_text())
    manifest_path.write_text(json.dumps({**manifest, "template_fingerprint": "0" * 64}))
    with pytest.raises(ModelError, match=r"its chat template is not the one that model.json names"):
        GgufModel(next(exported.glob("*.gguf")))
