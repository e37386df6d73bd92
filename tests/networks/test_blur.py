"""Halving by the compiled kernel against the formula in float64."""

import pytest
import torch
import torch.nn.functional as F

from twofold.networks import native, sources
from twofold.networks.blur import BlurDown, Halved

pytestmark = pytest.mark.skipif(native.compiled() is None, reason="no C compiler, or not Linux")

SHAPES = [(2, 8, 6, 8), (1, 24, 7, 5), (3, 8, 2, 3), (1, 16, 3, 2)]


def formula(x):
    line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype)
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), kernel, stride=2, groups=x.shape[1])


@pytest.mark.parametrize("dtype", sources.TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_formula(shape, dtype):
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    exact = x.detach().double().requires_grad_()
    mine, right = BlurDown(shape[1])(x), formula(exact)
    assert type(mine.grad_fn).__name__ == "HalvedBackward"
    gradient = torch.randn(right.shape).to(dtype)
    found = [mine, *torch.autograd.grad(mine, x, gradient)]
    wanted = [right, *torch.autograd.grad(right, exact, gradient.double())]
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == dtype and one.is_contiguous(memory_format=torch.channels_last)
        atol = float(other.detach().abs().max()) * torch.finfo(dtype).eps
        torch.testing.assert_close(one.double(), other, rtol=0, atol=atol)


def test_second_gradients():
    """Of a sum of squares of the gradient, as a penalty takes them."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    seconds = []
    for blur in (Halved.apply, formula):
        (first,) = torch.autograd.grad(blur(x).sin().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*seconds)


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(1, 8, 6, 6).double(),
        torch.randn(1, 6, 6, 6),
        torch.randn(1, 8, 6, 6),
        torch.randn(1, 8, 1, 6),
    ],
    ids=["float64", "six channels", "another layout", "one row"],
)
def test_what_the_kernel_is_not_for_is_torchs(x, monkeypatch):
    monkeypatch.setattr(native.Kernels, "call", None)
    blur = BlurDown(x.shape[1]).to(x.dtype)
    if x.shape[2] == 1:  # torch says that it cannot be reflected
        with pytest.raises(RuntimeError, match="Padding size"):
            blur(x)
    else:
        torch.testing.assert_close(blur(x), formula(x))
