"""Reflected edges whose gradient is repeatable on CUDA, where torch has no deterministic one of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def make_reflection_deterministic(network: nn.Module) -> None:
    """Let the layers of a network, in place, reflect edges by `mirrored`; the state dict stays as it is."""
    for module in network.modules():
        if type(module) is nn.Conv2d and module.padding_mode == "reflect":
            module.__class__ = MirroringConv2d
        elif type(module) is nn.ReflectionPad2d:
            module.__class__ = MirroringPad2d


class MirroringConv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        padded = mirrored(input, int(self.padding[0]))
        return F.conv2d(padded, self.weight, self.bias, self.stride)


class MirroringPad2d(nn.ReflectionPad2d):
    def forward(self, input: Tensor) -> Tensor:
        return mirrored(input, self.padding[0])


def mirrored(images: Tensor, edge: int) -> Tensor:
    """Reflect (N, C, H, W) by parts put side by side, so that each pixel's gradient is a sum in one order."""
    for side in (2, 3):
        length = images.shape[side]
        before, after = images.narrow(side, 1, edge), images.narrow(side, length - 1 - edge, edge)
        images = torch.cat([before.flip(side), images, after.flip(side)], side)
    return images
