"""Linear layers through oneDNN: where they are used, and that they give what PyTorch gives."""

from __future__ import annotations

import platform

import pytest
import torch

from components.modeling import cpu_linear
from components.modeling.cpu_linear import MIN_ROWS, FrozenLinear, is_faster_here, is_for, limit_threads, use_onednn

needs_onednn = pytest.mark.skipif(not is_faster_here(), reason="oneDNN is used on x86-64 only")


@pytest.mark.parametrize(
    ("shape", "dtype", "used"),
    [
        ((MIN_ROWS, 4), torch.float32, True),
        ((2, MIN_ROWS // 2, 4), torch.float32, True),
        ((MIN_ROWS - 1, 4), torch.float32, False),
        ((4,), torch.float32, False),
        ((MIN_ROWS, 4), torch.bfloat16, False),
        ((MIN_ROWS, 4), torch.float64, False),
    ],
)
def test_many_rows_of_float32_go_through_onednn(shape, dtype, used):
    assert is_for(torch.zeros(shape, dtype=dtype)) is used


def test_an_input_on_another_device_does_not():
    assert not is_for(torch.zeros((MIN_ROWS, 4), device="meta"))


@pytest.mark.parametrize(("machine", "faster"), [("x86_64", True), ("AMD64", True), ("aarch64", False)])
def test_it_is_used_on_the_processors_that_it_was_measured_on(monkeypatch, machine, faster):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert is_faster_here() is faster
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert is_faster_here() is False


@pytest.mark.parametrize(("present", "cores", "set_to"), [(8, 2, 2), (2, 8, 2), (3, 3, 3)])
def test_threads_are_limited_and_never_raised(monkeypatch, present, cores, set_to):
    chosen: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: present)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(cpu_linear, "usable_cores", lambda: cores)
    limit_threads()
    assert chosen == [set_to]


def inputs(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape, requires_grad=True)


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(32, 6), (4, 8, 6)])
def test_a_frozen_layer_gives_the_output_and_the_gradient_of_pytorch(shape, bias):
    layer = torch.nn.Linear(6, 5, bias=bias).requires_grad_(False)
    x = inputs(*shape)
    found = FrozenLinear.apply(x, layer.weight, layer.bias)
    expected = layer(x)
    assert torch.allclose(found, expected, atol=1e-6)
    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    (own,) = torch.autograd.grad(expected.square().sum(), x)
    assert torch.allclose(gradient, own, atol=1e-5)


class Named(torch.nn.Linear):
    """A linear layer of another class, such as a quantized one."""


def test_plain_layers_are_replaced_and_others_are_not():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Named(4, 4), torch.nn.LayerNorm(4))
    use_onednn(model)
    assert [type(layer).__name__ for layer in model] == ["_Linear", "Named", "LayerNorm"]
    assert isinstance(model[0], torch.nn.Linear)
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]


@needs_onednn
def test_a_layer_is_frozen_or_trained_by_the_same_object(monkeypatch):
    used: list[int] = []
    monkeypatch.setattr(cpu_linear.FrozenLinear, "apply", lambda x, weight, bias: used.append(1) or x @ weight.T + bias)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    use_onednn(model)
    model(inputs(MIN_ROWS, 4))
    assert used == [], "a layer that is trained has a gradient of its own"
    model.requires_grad_(False)
    model(inputs(MIN_ROWS, 4))
    assert used == [1]
    model(inputs(MIN_ROWS - 1, 4))
    assert used == [1], "a few rows are bound by reading the weights"
