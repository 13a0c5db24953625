"""Checks that the layers which a recipe names can be trained, before training starts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from components.errors import ModelError

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"


def require_targets(model: PreTrainedModel, targets: str | list[str], address: str) -> None:
    """Check ``train.lora_target_modules`` against a model, whose weights need not be loaded.

    Raises:
        ModelError: a name matches no module, or one that cannot have an adapter; the message lists those that can.
    """
    if targets == ALL_LINEAR:
        return
    if isinstance(targets, str):
        try:
            re.compile(targets)
        except re.error as error:
            raise ModelError(
                f"train.lora_target_modules: {targets!r} is no pattern ({error}); give a list of names, or {ALL_LINEAR}"
            ) from error
    modules: dict[str, Module] = dict(model.named_modules())
    for target in [targets] if isinstance(targets, str) else targets:
        found = [name for name in modules if _matches(name, target, is_pattern=isinstance(targets, str))]
        problems = (_problem(model, modules[name], target) for name in found)
        problem = next(filter(None, problems), None) if found else f"there is no module {target!r}"
        if problem is not None:
            raise ModelError(
                f"train.lora_target_modules on {address}: {problem}; these can be trained: "
                f"{', '.join(_linear_layers(model))}, or {ALL_LINEAR}"
            )


def _problem(model: PreTrainedModel, module: Module, target: str) -> str | None:
    """The reason why a module cannot have an adapter, or None."""
    from torch.nn import Embedding, Linear
    from transformers.pytorch_utils import Conv1D

    if module is model.get_output_embeddings():
        return f"{target!r} is the output layer, which no adapter is trained on"
    is_tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if module is model.get_input_embeddings() and is_tied:
        return (
            f"{target!r} is the embedding, whose weights are the output layer's too: merged, the adapter would change "
            "both"
        )
    if not isinstance(module, Linear | Conv1D | Embedding):
        return f"{target!r} is no linear layer ({type(module).__name__})"
    return None


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """The last parts of the names of all linear layers but the output layer."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    linear = (
        name for name, module in model.named_modules() if isinstance(module, Linear | Conv1D) and module is not output
    )
    return sorted({name.rpartition(".")[2] for name in linear})


def _matches(name: str, target: str, *, is_pattern: bool) -> bool:
    """Whether peft would match a target: a single string is a pattern of the whole name, one of a list a suffix."""
    if is_pattern:
        return re.fullmatch(target, name) is not None
    return name == target or name.endswith(f".{target}")
