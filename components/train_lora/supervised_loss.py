"""The loss of one padding-free batch, with logits at the supervised positions only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def supervised_loss(model: torch.nn.Module, inputs: Mapping[str, Any], n_tokens: torch.Tensor | int) -> torch.Tensor:
    """The summed loss of the supervised tokens over ``n_tokens``, in nats; ``inputs`` are one sequence.

    labels  # (1, seq), -100 where nothing is supervised
    """
    labels = inputs["labels"][0, 1:]
    predicting = (labels != -100).nonzero().flatten()
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, use_cache=False, logits_to_keep=predicting).logits[0]  # (supervised, vocab)
    total = torch.nn.functional.cross_entropy(logits.float(), labels[predicting], reduction="sum")
    return total / n_tokens
