"""What the U-Net has of its own: skips."""

import torch

from twofold.networks.unet import SideBySide


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
