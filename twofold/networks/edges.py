"""Edges that mirror what is inside."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.networks.eager import rounding_here


def reflected(images: Tensor, edge: int) -> Tensor:
    """Images (N, C, H, W) with so many pixels around them that mirror those inside; bf16 stays bf16.

    Autocast on a CPU would make it float32, and the convolution's own cast bf16 again. On a GPU torch has no repeatable
    gradient of its own reflection, and refuses it where such are asked for.
    """
    if images.device.type != "cpu" and torch.are_deterministic_algorithms_enabled():
        return mirrored(images, edge)
    if not rounding_here(images):
        return F.pad(images, (edge,) * 4, "reflect")
    made = Reflected.apply(images, edge)
    assert made is not None
    return made


def mirrored(images: Tensor, edge: int) -> Tensor:
    """The same as parts put side by side: each pixel's gradient is a sum in one order."""
    for side in (2, 3):
        length = images.shape[side]
        before, after = images.narrow(side, 1, edge), images.narrow(side, length - 1 - edge, edge)
        images = torch.cat([before.flip(side), images, after.flip(side)], side)
    return images


class Reflected(torch.autograd.Function):
    """`reflected`, whose gradient folds the edges back: torch's own takes three times as long for bf16 on a CPU."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, edge: int) -> Tensor:
        ctx.edge, ctx.shape = edge, images.shape
        with torch.autocast("cpu", enabled=False):
            return F.pad(images, (edge,) * 4, "reflect")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():
            images = gradient.new_zeros(ctx.shape, requires_grad=True)
            made = F.pad(images, (ctx.edge,) * 4, "reflect")
            return torch.autograd.grad(made, images, gradient, create_graph=True)[0], None
        return folded(folded(gradient, ctx.edge, 2), ctx.edge, 3), None


def folded(images: Tensor, edge: int, side: int) -> Tensor:
    """Images without edges on two sides, each of whose pixels is added to the one that it mirrors."""
    length = images.shape[side] - 2 * edge
    inner = images.narrow(side, edge, length).clone(memory_format=torch.channels_last)
    inner.narrow(side, 1, edge).add_(images.narrow(side, 0, edge).flip(side))
    inner.narrow(side, length - 1 - edge, edge).add_(images.narrow(side, length + edge, edge).flip(side))
    return inner
