"""Reflected edges made of parts: repeatable on CUDA, and in the memory layout of the images.

torch's own reflection has no deterministic gradient there, and copies channels-last images to the other layout."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twofold.training.float32_layers import Float32Conv2d, InFloat32


def reflect_by_parts(network: nn.Module) -> None:
    """Let the layers of a network, in place, reflect edges by `mirrored`; the state dict and the results stay."""
    for module in network.modules():
        if type(module) in MIRRORING and module.padding_mode == "reflect":
            module.__class__ = MIRRORING[type(module)]
        elif type(module) is nn.ReflectionPad2d:
            module.__class__ = MirroringPad2d


class MirroringConv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        padded = mirrored(input, int(self.padding[0]))
        return F.conv2d(padded, self.weight, self.bias, self.stride)


class MirroringFloat32Conv2d(InFloat32, MirroringConv2d):
    pass


MIRRORING: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: MirroringConv2d,
    Float32Conv2d: MirroringFloat32Conv2d,
}


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
