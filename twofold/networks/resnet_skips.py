"""The ResNet generator with skips, which learns the change of the image alone; it is in no paper."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from twofold.networks.resnet import ResnetGenerator, reflecting

NEARLY = 0.99
"""White and black enter the sum before tanh as this much, for tanh reaches neither."""


class SkipResnetGenerator(ResnetGenerator):
    """A ResNet that hands detail around the bottleneck.

    Each doubling is joined with what the halving of its size was given. With as many channels out as in, the network
    makes a change that is added to the image: contents stay sharp, and training starts from a copy. Arguments as those
    of `ResnetGenerator`.
    """

    skips = True
    last_kernel = 3

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.residual = self.arguments["in_channels"] == self.arguments["out_channels"]
        leave = self.leave
        del self.leave  # `join` comes before it in the order of the parameters
        self.join = nn.ModuleList([join(channels) for channels in reversed(self.widths)])
        self.leave = leave

    def forward(self, images: Tensor) -> Tensor:
        x, passed = self.enter(images), []
        for halving in self.down:
            passed.append(x)
            x = halving(x)
        return self.decode(images, passed, self.blocks(x))

    def forward_with_features(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        *before, _ = accumulate([len(self.enter), *(len(down) for down in self.down)])  # pyright: ignore[reportArgumentType]
        outputs = self.features(images, [*layers, *before, len(self.encoder())])
        found, passed = outputs[: len(layers)], outputs[len(layers) : -1]
        return self.decode(images, passed, outputs[-1]), found

    def decode(self, images: Tensor, passed: list[Tensor], x: Tensor) -> Tensor:
        """The translation of `images`, from what each halving was given and the output of the last block."""
        for doubling, joining in zip(self.up, self.join, strict=True):
            x = joining(torch.cat((doubling(x), passed.pop()), 1))
        x = self.leave(x)
        return torch.tanh(x + atanh(NEARLY * clamped(images))) if self.residual else torch.tanh(x)


def join(channels: int) -> nn.Sequential:
    """(N, 2 channels, H, W) to (N, channels, H, W); without a norm, so that levels come through as they are."""
    conv = reflecting(2 * channels, channels, 3)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True)))


def clamped(images: Tensor) -> Tensor:
    """Clamp to [-1, 1]. Unlike clamp since torch 2.14, the gradient reaches what lies at an end, white and black."""
    return torch.where(images.abs() <= 1, images, images.detach().clamp(-1, 1))


def atanh(x: Tensor) -> Tensor:
    """torch.atanh; as a formula in a trace, since the TorchScript exporter to ONNX does not know it."""
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return ((1 + x) / (1 - x)).log() / 2 if tracing else torch.atanh(x)


def resnet(*arguments: Any, skips: bool = False, **named: Any) -> ResnetGenerator:
    """A ResNet generator with skips or without; the other arguments as those of `ResnetGenerator`."""
    return (SkipResnetGenerator if skips else ResnetGenerator)(*arguments, **named)
