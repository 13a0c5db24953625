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
    from torch.nn import Embedding, Linear
    from transformers.pytorch_utils import Conv1D

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
    output, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    linear = [name for name, module in modules.items() if isinstance(module, Linear | Conv1D) and module is not output]
    trainable = sorted({name.rpartition(".")[2] for name in linear})

    def refused(reason: str) -> ModelError:
        return ModelError(
            f"train.lora_target_modules on {address}: {reason}; these would do: {', '.join(trainable)}, or {ALL_LINEAR}"
        )

    for target in [targets] if isinstance(targets, str) else targets:
        found = [name for name in modules if _matches(name, target, is_pattern=isinstance(targets, str))]
        if not found:
            raise refused(f"there is no module {target!r}")
        for name in found:
            module = modules[name]
            if module is output:
                raise refused(f"{target!r} is the output layer, which no adapter is trained on")
            if module is embedding and getattr(model.config.get_text_config(), "tie_word_embeddings", False):
                raise refused(
                    f"{target!r} is the embedding, whose weights are the output layer's too: merged, the adapter would "
                    "change both"
                )
            if not isinstance(module, Linear | Conv1D | Embedding):
                raise refused(f"{target!r} is no linear layer ({type(module).__name__})")


def _matches(name: str, target: str, *, is_pattern: bool) -> bool:
    """Whether peft would match a target: a single string is a pattern of the whole name, one of a list a suffix."""
    if is_pattern:
        return re.fullmatch(target, name) is not None
    return name == target or name.endswith(f".{target}")
