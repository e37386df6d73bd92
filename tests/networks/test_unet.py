"""What the U-Net has of its own: skips, and layers for which kernels are chosen by size."""

import copy

import pytest
import torch

from twofold.networks import native
from twofold.networks.layers import initialise
from twofold.networks.unet import SideBySide, UnetGenerator


@pytest.mark.skipif(native.compiled() is None, reason="no C compiler, or not Linux")
def test_kernels_are_exact(monkeypatch):
    """Of all gradients, at the sizes of a real training: by phases at the outer layers, in few rows at the inner."""
    names = []
    call = native.Kernels.call
    monkeypatch.setattr(native.Kernels, "call", lambda *args: names.append(args[1]) or call(*args))
    torch.manual_seed(0)
    network = UnetGenerator(width=16, depth=7)
    initialise(network)
    images = torch.rand(1, 3, 128, 128) * 2 - 1
    exact = gradients(copy.deepcopy(network).double(), images.double())
    network = network.to(memory_format=torch.channels_last)
    for on in (True, False):
        with native.allowed(on):
            found = gradients(network, images.to(memory_format=torch.channels_last))
        assert max(float((x - y).norm() / y.norm()) for x, y in zip(found, exact, strict=True)) < 1e-4
    assert {"few_rows", "few_rows_transposed", "few_terms", "to_input_2_4", "from_input_back_2_4"} <= {*names}


def gradients(network, images):
    """Of its weights, and of the images."""
    images = images.requires_grad_()
    made = network(images)
    return torch.autograd.grad((made**2).mean(), (*network.parameters(), images))


def test_side_by_side_is_torchs_cat_with_gradients_in_one_piece():
    torch.manual_seed(0)
    images = [
        torch.randn(2, channels, 3, 5, dtype=torch.float64)
        .to(memory_format=torch.channels_last)
        .requires_grad_()
        for channels in (4, 2)
    ]
    made, right = SideBySide.apply(*images), torch.cat(images, 1)
    assert torch.equal(made, right) and made.stride() == right.stride()
    gradient = torch.randn_like(made)
    mine = torch.autograd.grad(made, images, gradient)
    for one, other in zip(mine, torch.autograd.grad(right, images, gradient), strict=True):
        assert torch.equal(one, other)
        assert one.is_contiguous(memory_format=torch.channels_last)
    assert torch.autograd.gradgradcheck(SideBySide.apply, images)
