"""How a loaded model is described: names, defaults, figures, reasoning, tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import GenerationDefaults, ModelManifest, ProofAnswer
from components.model_server.http.served_model import ServedModel
from components.modeling.chat_template import Edges
from tests.components.model_server.tool_calls.templates import SHORT, Rendering

SHA256 = "a" * 64
PROOF = ProofAnswer(prompt="2 + 2?", answer="4", max_tokens=8)
OPENING = (
    "{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt and (enable_thinking is not defined or enable_thinking) %}<think>\n{% endif %}"
)


class Model(Rendering):
    """What a loaded file has, without weights."""

    path = Path("/models/model-Q8_0.gguf")
    n_ctx, context_length, n_parameters, size_bytes = 256, 512, 1000, 4000
    answer_edges = Edges("\n", "")

    def __init__(self, template: str, **manifest: Any) -> None:
        super().__init__(template)
        self.template = template
        empty: dict[str, Any] = {"name": None, "quantization": "Q8_0", "generation": GenerationDefaults(),
                                 "example_prompts": [], "sha256": SHA256, "proof": PROOF}  # fmt: skip
        self.manifest = ModelManifest.model_construct(**{**empty, **manifest}) if manifest else None


def described(template: str = SHORT, model_id: str | None = None, **manifest: Any) -> ServedModel:
    return ServedModel.from_model(Model(template, **manifest), model_id)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("manifest", "model_id", "name", "aliases"),
    [
        ({}, None, "model-Q8_0", []),
        ({}, "mine", "mine", []),
        ({"name": "lorry"}, None, "lorry", ["model-Q8_0", "lorry-Q8_0"]),
        ({"name": "lorry"}, "mine", "mine", ["model-Q8_0", "lorry-Q8_0"]),
        ({"name": "lorry"}, "model-Q8_0", "model-Q8_0", ["lorry-Q8_0"]),
        ({"example_prompts": ["Hi"]}, None, "model-Q8_0", []),
    ],
)
def test_the_name_is_the_given_one_or_the_manifests_or_the_files(manifest, model_id, name, aliases):
    served = described(model_id=model_id, **manifest)
    assert (served.name, served.aliases) == (name, aliases)
    assert all(map(served.has_name, [name, *aliases]))
    assert not served.has_name("gpt-9")
    assert not served.has_name("")


def test_meta_has_figures_and_the_manifests_defaults_and_examples():
    served = described(generation=GenerationDefaults(temperature=0.5, max_tokens=9), example_prompts=["Hi?"])
    assert served.meta() == {
        "n_ctx": 256,
        "n_ctx_train": 512,
        "n_params": 1000,
        "size": 4000,
        "sha256": SHA256,
        "proof": PROOF.model_dump(),
        "default_generation_settings": {"temperature": 0.5, "max_tokens": 9},
        "example_prompts": ["Hi?"],
    }
    without = described().meta()
    assert (without["default_generation_settings"], without["example_prompts"]) == ({}, [])
    assert not without.keys() & {"sha256", "proof"}


def test_whether_reasoning_is_opened_depends_on_the_variables_of_the_template():
    served = described(OPENING)
    assert served.opens_reasoning({})
    assert served.opens_reasoning({"other": 1})
    assert not served.opens_reasoning({"enable_thinking": False})
    assert not described(SHORT).opens_reasoning({})


def test_tools_are_those_of_the_template():
    with_tools = described(SHORT).call_format
    assert with_tools is not None
    assert with_tools.head == "<call>"
    assert described(OPENING).call_format is None


def test_a_file_without_a_template_has_neither_reasoning_nor_tools_nor_edges():
    served = described("")
    assert not served.opens_reasoning({"enable_thinking": True})
    assert (served.call_format, served.answer_edges) == (None, Edges())
    assert described().answer_edges == Edges("\n", "")
