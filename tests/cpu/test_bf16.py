"""Convolutions in bf16 under autocast against torch's own in float64, by whichever means this machine has."""

import pytest
import torch
from torch import nn

from twofold.cpu import bf16, native
from twofold.cpu.accelerate import accelerate
from twofold.networks.blur import BlurDown

EPSILON = torch.finfo(torch.bfloat16).eps

CASES = {
    "strided": (nn.Conv2d(32, 48, 4, 2, 1), (2, 32, 8, 12)),
    "one pixel": (nn.Conv2d(32, 48, 4, 2, 1), (1, 32, 2, 2)),
    "even kernel": (nn.Conv2d(32, 48, 4, 1, 1), (1, 32, 9, 7)),
    "zeros": (nn.Conv2d(16, 32, 3, padding=1), (2, 16, 20, 22)),
    "large maps": (nn.Conv2d(16, 24, 4, 2, 1), (2, 16, 50, 64)),
    "reflected": (nn.Conv2d(16, 24, 3, padding=1, padding_mode="reflect"), (2, 16, 20, 10)),
    "odd channels": (nn.Conv2d(19, 35, 3, 2, 1), (1, 19, 9, 13)),
    "from an image": (nn.Conv2d(3, 24, 7, padding=3, padding_mode="reflect"), (2, 3, 9, 12)),
    "to an image": (nn.Conv2d(24, 3, 7, padding=3, padding_mode="reflect"), (2, 24, 9, 12)),
    "to logits": (nn.Conv2d(24, 1, 4, 1, 1), (2, 24, 8, 9)),
    "transposed": (nn.ConvTranspose2d(16, 24, 3, 2, 1, output_padding=1), (2, 16, 5, 7)),
    "transposed, even kernel": (nn.ConvTranspose2d(16, 24, 4, 2, 1), (1, 16, 1, 2)),
    "transposed, large maps": (nn.ConvTranspose2d(16, 24, 4, 2, 1), (1, 16, 34, 32)),
}

MEANS = {"the library's and kernels": (2**20, True), "the library's": (2**20, False), "products": (0, False)}
"""The size of filters that are large, and whether kernels may be used."""

for _layer, _ in CASES.values():
    accelerate(_layer)


def rough(layer, x):
    with torch.autocast("cpu", torch.bfloat16):
        return layer(x)


def exact(layer, x):
    """What rounded filters make of rounded images, and nothing else is bf16."""
    copy = {name: value.detach().bfloat16().double() for name, value in layer.named_parameters()}
    copy = {name: value.requires_grad_() for name, value in copy.items()}
    x = x.detach().bfloat16().double().requires_grad_()
    return torch.func.functional_call(layer.double(), copy, x), (x, *copy.values())


def near(mine, right, times):
    right = right.detach()
    torch.testing.assert_close(
        mine.detach().double(), right, rtol=0, atol=times * EPSILON * float(right.abs().max())
    )


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CASES)
def test_against_torch(name, layout, means, monkeypatch):
    torch.manual_seed(0)
    large, kernels = MEANS[means]
    monkeypatch.setattr(bf16, "PRODUCT_FROM", large)
    if not large:
        monkeypatch.setattr(bf16, "WEIGHTS_PER_PIXEL", 0)
        monkeypatch.setattr(bf16, "WEIGHTS_PER_PIXEL_OF_GRADIENT", 0)
    layer, shape = CASES[name]
    layer = layer.float().to(memory_format=layout)
    nn.init.normal_(layer.bias)
    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    layer.kernels = kernels
    made = rough(layer, x)
    assert made.dtype == torch.bfloat16 and type(made.grad_fn).__name__ == "AddBackward0"
    gradient = torch.randn(made.shape).bfloat16()
    mine = torch.autograd.grad(made, (x, *layer.parameters()), gradient)
    assert [each.dtype for each in mine] == [torch.float32] * 3
    assert mine[1].stride() == layer.weight.stride()
    right, wanted = exact(layer, x)
    near(made, right, 1)
    for one, other in zip(mine, torch.autograd.grad(right, wanted, gradient.double()), strict=True):
        near(one, other, 4)  # its edges are added in bf16


@pytest.mark.parametrize("name", CASES)
def test_only_the_gradients_that_are_needed(name):
    layer, shape = CASES[name]
    layer = layer.float()
    layer.weight.requires_grad_(False)
    x = torch.randn(shape, requires_grad=True)
    rough(layer, x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None
    layer.weight.requires_grad_(True)
    rough(layer, x.detach()).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("name", CASES)
def test_second_gradients(name):
    """Discriminators whose gradient is penalised need them."""
    torch.manual_seed(0)
    layer, shape = CASES[name]
    layer = layer.float()
    x = torch.randn(shape, requires_grad=True)
    made = rough(layer, x)
    first = torch.autograd.grad((made.float() ** 2).sum(), (x, layer.weight), create_graph=True)
    mine = torch.autograd.grad(sum((y**2).sum() for y in first), (x, layer.weight))
    right, (x, weight, _) = exact(layer, x)
    first = torch.autograd.grad((right**2).sum(), (x, weight), create_graph=True)
    for one, other in zip(
        mine, torch.autograd.grad(sum((y**2).sum() for y in first), (x, weight)), strict=True
    ):
        near(one, other, 8)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 8, 12, 10), (1, 5, 7, 9), (1, 8, 2, 3), (0, 8, 4, 4)])
def test_antialiased_halving(shape, layout):
    """Values equal the plain module's; its gradient and second gradient are those in float64."""
    torch.manual_seed(0)
    plain, fast = BlurDown(shape[1]), accelerate(BlurDown(shape[1]))
    x = torch.randn(shape).bfloat16().contiguous(memory_format=layout).requires_grad_()
    made = rough(fast, x)
    assert type(made.grad_fn).__name__ == "HalvedByBlurBackward"
    assert torch.equal(made, rough(plain, x))
    gradient = torch.randn(made.shape).bfloat16()
    mine = derivatives(made, x, gradient)
    precise = x.detach().double().requires_grad_()
    right = derivatives(plain.double()(precise), precise, gradient.double())
    for one, other in zip(mine, right, strict=True):
        assert one.dtype == torch.bfloat16
        if len(x):
            near(one, other, 4)  # its edges are added in bf16


def derivatives(made, x, gradient):
    (first,) = torch.autograd.grad(made, x, gradient, retain_graph=True)
    (curved,) = torch.autograd.grad(made, x, 2 * made, create_graph=True)
    return first, torch.autograd.grad(curved, x, torch.ones_like(curved))[0]


AMX = pytest.mark.skipif(
    not (native.kernels() and native.kernels().amx), reason="this processor multiplies no tiles of bf16"
)


@AMX
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 4, 7])
@pytest.mark.parametrize(("outer", "inner"), [(16, 3), (33, 40), (64, 31), (100, 64)])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 5, 7), (1, 40, 33)])
def test_filter_gradients_by_tiles(size, outer, inner, kernel, stride):
    """Sums of products that float32 holds exactly: of small whole numbers."""
    torch.manual_seed(0)
    n, h, w = size
    small = torch.randint(-3, 4, (n, outer, h, w)).bfloat16()
    sides = [stride * (side - 1) + kernel for side in (h, w)]
    large = torch.randint(-3, 4, (n, inner, *sides)).bfloat16()
    weight = torch.empty(outer, inner, kernel, kernel).bfloat16()
    made = bf16.filter_gradient(small, large, weight, stride, 0, native.kernels())
    right = torch.nn.grad.conv2d_weight(large.double(), weight.shape, small.double(), stride)
    assert torch.equal(made.double(), right)


@AMX
def test_more_pixels_than_are_packed_at_once_and_threads_change_no_bit():
    torch.manual_seed(0)
    small, large = torch.randn(2, 96, 64, 64).bfloat16(), torch.randn(2, 20, 66, 66).bfloat16()
    weight = torch.empty(96, 20, 3, 3).bfloat16()
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(bf16.filter_gradient(small, large, weight, 1, 0, native.kernels()))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    right = torch.nn.grad.conv2d_weight(large.double(), weight.shape, small.double())
    torch.testing.assert_close(found[0].double(), right, rtol=0, atol=1e-5 * float(right.abs().max()))
