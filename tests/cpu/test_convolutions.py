"""Every algorithm of a convolution against torch's own, values and gradients, in both memory layouts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twofold.cpu import accelerate as acceleration
from twofold.cpu import winograd
from twofold.cpu.accelerate import accelerate
from twofold.cpu.filter_gradients import StridedConv, TransposedConv
from twofold.cpu.winograd import WinogradConv
from twofold.networks.blur import BlurDown
from twofold.networks.layers import before_norm

CASES = {
    "winograd, reflected": (
        WinogradConv,
        nn.Conv2d(5, 7, 3, padding=1, padding_mode="reflect"),
        (2, 5, 8, 12),
    ),
    "winograd, zeros": (WinogradConv, nn.Conv2d(5, 7, 3, padding=1), (1, 5, 8, 8)),
    "winograd, odd sides": (
        WinogradConv,
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        (2, 4, 9, 7),
    ),
    "winograd, large tiles": (WinogradConv, nn.Conv2d(3, 5, 3, padding=1), (2, 3, 12, 18)),
    "winograd, large tiles, reflected, odd sides": (
        WinogradConv,
        nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"),
        (3, 3, 11, 17),
    ),
    "winograd, under a tile": (
        WinogradConv,
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        (1, 4, 2, 3),
    ),
    "winograd, four taps": (WinogradConv, nn.Conv2d(5, 7, 4, padding=1), (2, 5, 9, 13)),
    "winograd, four taps, odd sides": (WinogradConv, nn.Conv2d(3, 4, 4, padding=1), (1, 3, 8, 6)),
    "winograd, four taps, reflected": (
        WinogradConv,
        nn.Conv2d(3, 4, 4, padding=1, padding_mode="reflect"),
        (1, 3, 8, 6),
    ),
    "winograd, no padding": (WinogradConv, nn.Conv2d(5, 7, 3), (2, 5, 10, 13)),
    "winograd, four taps, no padding": (WinogradConv, nn.Conv2d(3, 4, 4), (1, 3, 12, 6)),
    "strided": (StridedConv, nn.Conv2d(5, 7, 3, stride=2, padding=1), (2, 5, 8, 10)),
    "strided, odd sides": (StridedConv, nn.Conv2d(5, 7, 3, stride=2, padding=1), (2, 5, 9, 7)),
    "strided, even kernel": (StridedConv, nn.Conv2d(5, 7, 4, stride=2, padding=1), (2, 5, 8, 10)),
    "strided, large maps": (StridedConv, nn.Conv2d(5, 7, 4, stride=2, padding=1), (2, 5, 40, 36)),
    "strided, one pixel": (StridedConv, nn.Conv2d(5, 7, 4, stride=2, padding=1), (2, 5, 2, 2)),
    "transposed, very small maps": (TransposedConv, nn.ConvTranspose2d(5, 4, 4, 2, 1), (2, 5, 1, 2)),
    "transposed": (TransposedConv, nn.ConvTranspose2d(5, 4, 3, 2, 1, output_padding=1), (2, 5, 4, 6)),
    "transposed, even kernel": (TransposedConv, nn.ConvTranspose2d(5, 4, 4, 2, 1), (2, 5, 4, 6)),
}


for _, layer, _ in CASES.values():
    accelerate(layer)


def reference(layer, x):
    """Of torch alone."""
    return layer.plain_class.forward(layer, x)


@pytest.fixture(autouse=True)
def _winograd_always(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(acceleration, "WINOGRAD_FROM", 1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CASES)
def test_against_torch(name, layout, monkeypatch):
    algorithm, layer, shape = CASES[name]
    layer = layer.double().to(memory_format=layout)
    nn.init.normal_(layer.bias)
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    taken = []
    convolved = algorithm.convolved
    monkeypatch.setattr(algorithm, "convolved", lambda *args: taken.append(name) or convolved(*args))
    mine, right = layer(x), reference(layer, x)
    assert taken == [name]
    torch.testing.assert_close(mine, right)
    gradient = torch.randn_like(right)
    wanted = (x, layer.weight, layer.bias)
    for given in (gradient, gradient.contiguous(), gradient.contiguous(memory_format=torch.channels_last)):
        for one, other in zip(
            torch.autograd.grad(mine, wanted, given, retain_graph=True),
            torch.autograd.grad(right, wanted, given, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", CASES)
def test_only_the_gradients_that_are_needed(name):
    _, layer, shape = CASES[name]
    layer = layer.double()
    x = torch.randn(shape, dtype=torch.float64)
    layer.weight.requires_grad_(False)
    layer(x.requires_grad_()).sum().backward()
    assert x.grad is not None and layer.weight.grad is None
    layer.weight.requires_grad_(True)
    layer(x.detach()).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize(("side", "tile"), [(16, 4), (24, 6), (64, 6)])
def test_winograd_in_float32_is_close(side, tile):
    """Its numbers grow by the transforms: a hundred times float32's rounding is what is allowed."""
    layer = accelerate(nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"))
    assert winograd.plan(side, side, 3, 1, True, torch.float32, None).output.step == tile
    x = torch.randn(1, 64, side, side)
    with torch.no_grad():
        right = reference(layer.double(), x.double())
        mine = layer.float()(x)
    assert (mine - right).abs().max() < 100 * torch.finfo(torch.float32).eps * right.abs().max()


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 5, 3, padding=1), nn.ConvTranspose2d(4, 5, 3, 2, 1, output_padding=1)]
)
def test_a_bias_that_a_norm_takes_away_is_not_added(layer):
    """Unless somebody trains it, who looks at what is before the norm."""
    nn.init.ones_(layer.bias)
    accelerate(before_norm(layer, "instance"))
    x = torch.randn(1, 4, 8, 8)
    right, mine = reference(layer, x), layer(x)
    torch.testing.assert_close(mine, right - 1, rtol=1e-4, atol=1e-5)
    layer.bias.requires_grad_()
    torch.testing.assert_close(layer(x), right, rtol=1e-4, atol=1e-5)


def test_images_convolved_in_turn_are_those_convolved_together(monkeypatch):
    layer = accelerate(nn.Conv2d(5, 7, 3, padding=1, padding_mode="reflect").double())
    x = torch.randn(3, 5, 12, 13, dtype=torch.float64, requires_grad=True)
    found = []
    for at_once in (2**30, 1):
        monkeypatch.setattr(winograd, "AT_ONCE", at_once)
        plan = winograd.plan(12, 13, 3, 1, True, torch.float64, None)
        assert len(plan.divided(x, layer.weight)[0]) == (1 if at_once > 1 else 3)
        made = layer(x)
        found.append([made, *torch.autograd.grad((made**2).sum(), (x, layer.weight))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_autocast_and_other_devices_keep_torchs_own(monkeypatch):
    layer = accelerate(nn.Conv2d(8, 8, 3, padding=1))
    monkeypatch.setattr(WinogradConv, "convolved", None)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 8, 8, 8)).dtype == torch.bfloat16
    assert layer.to("meta")(torch.empty(1, 8, 8, 8, device="meta")).shape == (1, 8, 8, 8)


@pytest.mark.parametrize("layer", [nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), BlurDown(8)])
def test_autocast_leaves_reflected_edges_in_bf16(layer, monkeypatch):
    """torch's would make them float32 on a CPU, for the convolution to make them bf16 again."""
    seen = []
    layer = accelerate(layer)
    convolve = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, *args, **more: seen.append(x) or convolve(x, *args, **more))
    x = torch.randn(1, 8, 6, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        layer(x)
    (padded,) = seen
    assert padded.dtype == torch.bfloat16 and torch.equal(padded, F.pad(x, (1, 1, 1, 1), "reflect"))


@pytest.mark.parametrize(("inner", "outer", "compiled"), [(32, 96, False), (24, 40, True), (12, 96, True)])
def test_small_convolutions_keep_torchs_own(monkeypatch, inner, outer, compiled):
    monkeypatch.setattr(acceleration, "WINOGRAD_FROM", 48 * 96)
    monkeypatch.setattr(WinogradConv, "convolved", None)
    layer = accelerate(nn.Conv2d(inner, outer, 3, padding=1), kernels=compiled)
    made = layer(torch.randn(1, inner, 8, 8))
    assert made.shape == (1, outer, 8, 8)


@pytest.mark.parametrize("name", CASES)
def test_second_gradients(name):
    """Discriminators whose gradient is penalised need them."""
    _, layer, (_, channels, *_) = CASES[name]
    layer = layer.double()
    side = 2 if "pixel" in name or "small maps" in name else 7
    x = torch.randn(1, channels, side, side, dtype=torch.float64, requires_grad=True)
    gradient = [
        torch.autograd.grad(made.sin().sum(), (x, layer.weight), create_graph=True)
        for made in (layer(x), reference(layer, x))
    ]
    for one, other in zip(*gradient, strict=True):
        torch.testing.assert_close(one, other)
    seconds = [torch.autograd.grad(sum((y**2).sum() for y in first), (x, layer.weight)) for first in gradient]
    for one, other in zip(*seconds, strict=True):
        torch.testing.assert_close(one, other)
