"""Linear layers through oneDNN where PyTorch would use MKL: float32 on an x86-64 processor, for many rows at once.

MKL has no AVX-512 kernels for AMD's processors: on an EPYC with AVX-512 oneDNN gives 2.3 times the products a second,
with AVX2 alone 1.15 times (docs/benchmarks.md).
"""

from __future__ import annotations

import platform
from typing import Any

import torch

from components.runtime.cores import usable_cores

# With fewer rows, both libraries are bound by reading the weights.
MIN_ROWS = 16


def limit_threads() -> None:
    """Limit PyTorch's threads to the cores of the container's CPU quota; its default is those of the host."""
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def is_faster_here() -> bool:
    """Whether oneDNN is available, on the kind of processor that it was measured on."""
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_onednn) and platform.machine() in ("x86_64", "AMD64")


def is_for(x: torch.Tensor) -> bool:
    """Whether oneDNN is used for an input ``x  # (..., in)``."""
    return x.device.type == "cpu" and x.dtype is torch.float32 and x.numel() >= MIN_ROWS * x.shape[-1]


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``x @ weight.T + bias`` without a gradient.

    x  # (rows, in)
    weight  # (out, in), of any strides
    returns  # (rows, out)
    """
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


class FrozenLinear(torch.autograd.Function):
    """``linear`` with a gradient for its input only."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """x  # (..., in); returns  # (..., out)"""
        ctx.save_for_backward(weight)
        return linear(x.flatten(0, -2), weight, bias).view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient of x."""
        (weight,) = ctx.saved_tensors
        (gradient,) = gradients
        back = linear(gradient.flatten(0, -2), weight.t())
        return back.view(*gradient.shape[:-1], weight.shape[1]), None, None


def use_onednn(model: torch.nn.Module) -> None:
    """Let the plain linear layers of ``model`` multiply with oneDNN while they are frozen."""
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = _Linear


class _Linear(torch.nn.Linear):
    """A linear layer that uses oneDNN where that is faster."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input  # (..., in); returns  # (..., out)"""
        is_trained = any(parameter.requires_grad for parameter in self.parameters())
        if is_trained or not is_for(input):
            return super().forward(input)
        result: torch.Tensor = FrozenLinear.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return result
