"""The ResNet generator of Johnson et al. 2016, as CycleGAN uses it (arXiv 1703.10593, appendix 7.2)."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from twofold.networks.layers import (
    Generator,
    NormName,
    UpsampleName,
    before_norm,
    has_bias,
    norm_layer,
    upscale,
)

NEARLY = 0.99
"""Of white and black a residual network starts at this much, for tanh reaches neither."""


class ResnetGenerator(Generator):
    """A 7×7 convolution, two halvings, `blocks` residual blocks, two doublings, a 7×7 convolution, tanh.

    Args:
        in_channels, out_channels: of the images.
        width: channels after the first convolution; the blocks have four times as many.
        blocks: residual blocks; the paper has 9 from 256 px on and 6 below.
        norm: after every convolution but the last.
        dropout: 0.5 in every block.
        upsample: how the doublings are made; see `layers.upscale`.
        skips: hand detail around the bottleneck, as the papers' network does not: each doubling is joined with
            what the halving of its size was given, and with as many channels out as in, the network makes a
            change that is added to the image. Contents come through clean, and training starts from a copy.
    """

    multiple_of = 4
    minimum = 8  # the blocks reflect one pixel, so a quarter of the side must be two at least

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        blocks: int = 9,
        norm: NormName = "instance",
        dropout: bool = False,
        upsample: UpsampleName = "transposed",
        skips: bool = False,
    ) -> None:
        super().__init__()
        self.arguments = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "width": width,
            "blocks": blocks,
            "norm": norm,
            "dropout": dropout,
            "upsample": upsample,
            "skips": skips,
        }
        self.skips, self.residual = skips, skips and in_channels == out_channels
        self.per_image = norm != "batch"
        enter = nn.Conv2d(in_channels, width, 7, padding=3, padding_mode="reflect", bias=has_bias(norm))
        reach = 1 if skips else 3
        leave = nn.Conv2d(width, out_channels, 2 * reach + 1, padding=reach, padding_mode="reflect")
        self.enter = stage({"conv": before_norm(enter, norm)}, width, norm)
        self.down = nn.Sequential(halve(width, norm), halve(2 * width, norm))
        self.blocks = nn.Sequential(*[ResidualBlock(4 * width, norm, dropout) for _ in range(blocks)])
        self.up = nn.Sequential(double(4 * width, norm, upsample), double(2 * width, norm, upsample))
        self.join = nn.ModuleList([join(2 * width), join(width)] if skips else [])
        self.leave = nn.Sequential(OrderedDict(conv=leave))

    def forward(self, images: Tensor) -> Tensor:
        full = self.enter(images)  # (N, width, H, W)
        half = self.down[0](full)  # (N, 2 width, H/2, W/2)
        x = self.blocks(self.down[1](half))  # (N, 4 width, H/4, W/4)
        x = self.up[0](x)
        x = self.join[0](torch.cat((x, half), 1)) if self.skips else x
        x = self.up[1](x)  # (N, width, H, W)
        x = self.join[1](torch.cat((x, full), 1)) if self.skips else x
        x = self.leave(x)
        return torch.tanh(x + torch.atanh(NEARLY * images)) if self.residual else torch.tanh(x)


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, norm: NormName, dropout: bool) -> None:
        super().__init__()
        self.conv1 = reflecting(channels, norm)
        self.norm1 = norm_layer(norm, channels)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5) if dropout else nn.Identity()
        self.conv2 = reflecting(channels, norm)
        self.norm2 = norm_layer(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.relu(self.norm1(self.conv1(x))))
        return x + self.norm2(self.conv2(y))


def reflecting(channels: int, norm: NormName) -> nn.Conv2d:
    conv = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=has_bias(norm))
    return before_norm(conv, norm)


def stage(convolve: dict[str, nn.Module], channels: int, norm: NormName) -> nn.Sequential:
    after = {"norm": norm_layer(norm, channels), "relu": nn.ReLU(inplace=True)}
    return nn.Sequential(OrderedDict(convolve | after))


def join(channels: int) -> nn.Sequential:
    """(N, 2 channels, H, W) to (N, channels, H, W); without a norm, so that levels come through as they are."""
    conv = nn.Conv2d(2 * channels, channels, 3, padding=1, padding_mode="reflect")
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True)))


def halve(channels: int, norm: NormName) -> nn.Sequential:
    """(N, channels, H, W) to (N, 2 channels, H/2, W/2)."""
    conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=has_bias(norm))
    return stage({"conv": before_norm(conv, norm)}, 2 * channels, norm)


def double(channels: int, norm: NormName, upsample: UpsampleName) -> nn.Sequential:
    """(N, channels, H, W) to (N, channels / 2, 2H, 2W)."""
    to = channels // 2
    return stage(upscale(upsample, channels, to, kernel=3, norm=norm), to, norm)
