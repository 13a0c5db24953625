"""What the tests share: the tiny run's base, its validation rows, and its f16 file."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts.contracts import BaseModelRef
from components.artifacts.rows import read_rows
from components.export_gguf.convert import convert, merge
from components.modeling.base_model import folder_revision, load_tokenizer
from components.modeling.chat_template import template_of
from components.modeling.supervision import sequences_of
from components.modeling.token_loss import Example


@pytest.fixture(scope="package")
def base(tiny_base) -> BaseModelRef:
    return BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=1000)


@pytest.fixture(scope="package")
def validation(tiny_run) -> Path:
    return tiny_run.adapter.parent.parent / "split-data" / "validation"


@pytest.fixture(scope="package")
def examples(base, validation) -> list[Example]:
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, "")
    return [sequences_of(tokenizer, template, row)[0].cut(96) for row in read_rows(str(validation))]


@pytest.fixture(scope="package")
def f16(base, tiny_run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("f16")
    merge(base, str(tiny_run.adapter), folder / "merged")
    convert(folder / "merged", folder / "model-F16.gguf")
    return folder / "model-F16.gguf"
