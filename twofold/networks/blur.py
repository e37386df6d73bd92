"""Halving without aliasing: images are smoothed first."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BlurDown(nn.Module):
    """Halves height and width, smoothed by (1, 2, 1)² first: no aliasing (Zhang 2019, arXiv 1904.11486, §3.2)."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        line = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(line, line).expand(channels, 1, -1, -1).contiguous()
        self.register_buffer("kernel", kernel)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.pad(x), self.kernel.to(x.dtype), stride=2, groups=len(self.kernel))
