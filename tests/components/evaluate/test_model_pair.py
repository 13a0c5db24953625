"""The tokens that end an answer of an evaluation; whole evaluations are in test_evaluate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from components.artifacts.contracts import BaseModelRef
from components.evaluate.model_pair import ModelPair, _end_tokens
from components.modeling.base_model import load_tokenizer
from components.modeling.chat_template import template_of


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(BaseModelRef(address=str(tiny_base), revision="", weight_bytes=0))


@pytest.mark.parametrize(("eos_token_id", "configured"), [(None, set()), (3, {3}), ([3, 5], {3, 5})])
def test_an_answer_ends_at_the_templates_the_tokenizers_and_the_configs_ends(tokenizer, eos_token_id, configured):
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=eos_token_id))
    ends = _end_tokens(tokenizer, template_of(tokenizer, ""), model)  # type: ignore[arg-type]
    own = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>")}
    assert ends == sorted(own | configured)


def test_a_model_without_a_generation_config_ends_at_the_others(tokenizer):
    model: Any = SimpleNamespace(generation_config=None)
    assert tokenizer.eos_token_id in _end_tokens(tokenizer, template_of(tokenizer, ""), model)


def test_the_base_is_the_model_with_its_adapter_disabled():
    class Adapted:
        disabled = False

        def disable_adapter(self) -> Adapted:
            return self

        def __enter__(self) -> None:
            self.disabled = True

        def __exit__(self, *_: object) -> None:
            self.disabled = False

    model = Adapted()
    pair: Any = SimpleNamespace(model=model)
    assert [(name, model.disabled) for name in ModelPair._models(pair)] == [("base", True), ("tuned", False)]


def test_a_split_without_rows_is_not_measured(monkeypatch, caplog):
    monkeypatch.setattr("components.evaluate.model_pair.read_rows", lambda _: [])
    assert ModelPair.measure(SimpleNamespace(), "test", "path", 8) is None  # type: ignore[arg-type]
    assert caplog.messages == ["test has no rows; it is not measured"]
