"""A fused LoRA layer, forward and backward, for training on a CPU.

peft adds ``lora_B(lora_A(x)) * scaling`` to the frozen layer's output: three passes over a tensor as large as that
output, each with its gradient. Here one in-place product scales the small one and adds it to the large one.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear

from components.modeling.cpu_linear import is_for, linear


class _LoraLinear(torch.autograd.Function):
    """``x @ weight.T + bias + scaling * (x @ a.T) @ b.T``; x, a and b have gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """x  # (..., in); weight  # (out, in); a  # (rank, in); b  # (out, rank); returns  # (..., out)"""
        rows = x.flatten(0, -2)
        small = linear(rows, a)  # (rows, rank)
        ctx.save_for_backward(rows, small, weight, a, b)
        ctx.scaling = scaling
        result = linear(rows, weight, bias).addmm_(small, b.t(), alpha=scaling)
        return result.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """The gradients of x, a and b."""
        rows, small, weight, a, b = ctx.saved_tensors
        gradient = gradients[0].flatten(0, -2)  # (rows, out)
        of_small = linear(gradient, b.t()).mul_(ctx.scaling)  # (rows, rank)
        of_a = of_small.t() @ rows
        of_b = (gradient.t() @ small).mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = linear(gradient, weight.t()).addmm_(of_small, a)
            of_x = of_x.view(*gradients[0].shape[:-1], weight.shape[1])
        return of_x, None, None, of_a, of_b, None


def fuse_lora(model: torch.nn.Module) -> None:
    """Replace the forward pass of the plain LoRA layers of ``model`` by the fused one."""
    for module in model.modules():
        if type(module) is LoraLinear and isinstance(module.base_layer, torch.nn.Linear):
            module.forward = partial(_forward, module)


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    if args or kwargs or not is_for(x) or (adapter := _plain_adapter(layer)) is None:
        return LoraLinear.forward(layer, x, *args, **kwargs)  # type: ignore[no-any-return]
    base, a, b = layer.base_layer, layer.lora_A[adapter], layer.lora_B[adapter]
    result: torch.Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
        x, base.weight, base.bias, a.weight, b.weight, layer.scaling[adapter]
    )
    return result


def _plain_adapter(layer: Any) -> str | None:
    """The name of the layer's only adapter, if it is enabled, has no dropout and no variant; else None."""
    if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return None
    adapter = str(layer.active_adapters[0])
    if adapter not in layer.lora_A or adapter in layer.lora_variant:
        return None
    if any(parameter.requires_grad for parameter in layer.base_layer.parameters()):
        return None
    has_dropout = layer.training and not isinstance(layer.lora_dropout[adapter], torch.nn.Identity)
    return None if has_dropout else adapter
