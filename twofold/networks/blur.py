"""Halving without aliasing: smoothed first."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twofold.networks.convolutions import eager_here, reflected
from twofold.networks.remade import kernels_of, rows
from twofold.networks.scratch import empty


class BlurDown(nn.Module):
    """Half the height and width, smoothed by (1, 2, 1)² first: no aliasing (Zhang 2019, arXiv 1904.11486, §3.2)."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(line, line).expand(channels, 1, -1, -1).contiguous()
        self.register_buffer("kernel", kernel)

    def forward(self, x: Tensor) -> Tensor:
        if eager_here(x) and kernels_of(x) and min(x.shape[2:]) > 1:
            made = Halved.apply(x)
            assert made is not None
            return made
        return F.conv2d(reflected(x, 1), self.kernel.to(x.dtype), stride=2, groups=len(self.kernel))


class Halved(torch.autograd.Function):
    """What `BlurDown` does, of channels-last images (N, C, H, W) in one pass over memory."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        kernels = kernels_of(images)
        assert kernels is not None
        n, c, height, width = ctx.size = images.shape
        made = empty(n, c, (height + 1) // 2, (width + 1) // 2, like=images)
        kernels.halved(rows(images), rows(made))
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return HalvedBack.apply(gradient, ctx.size)


class HalvedBack(torch.autograd.Function):
    """The gradient of `Halved`, to images of that size."""

    @staticmethod
    def forward(_: Any, gradient: Tensor, size: torch.Size) -> Tensor:
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        kernels = kernels_of(gradient)
        assert kernels is not None
        made = empty(*size, like=gradient)
        kernels.halved_back(rows(gradient), rows(made))
        return made

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Halved.apply(gradient.contiguous(memory_format=torch.channels_last)), None
