"""The U-Net generator of pix2pix (arXiv 1611.07004, §3.2) and, without its skips, the encoder–decoder."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from twofold.networks.layers import (
    Generator,
    NormName,
    UpsampleName,
    arguments,
    before_norm,
    has_bias,
    norm_layer,
    upscale,
)


class UnetGenerator(Generator):
    """`depth` halvings down to a bottleneck, as many doublings, each fed what its halving saw; tanh.

    A skip carries the values after the LeakyReLU; the ReLU at the start of an `up` stage makes of them what
    it would have made of the values before.

    Args:
        in_channels, out_channels: of the images.
        width: channels after the first halving; each halving doubles them, up to eight times as many.
        depth: halvings, at least 2; 8 brings 256 px down to one.
        norm: after every convolution but the first, the innermost and the last.
        dropout: 0.5 in the doublings that stay at the deepest width, the innermost excepted.
        skips: whether to have them; without, this is the encoder–decoder.
        upsample: how the doublings are made; see `layers.upscale`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        depth: int = 8,
        norm: NormName = "batch",
        dropout: bool = False,
        skips: bool = True,
        upsample: UpsampleName = "transposed",
    ) -> None:
        super().__init__()
        self.arguments = arguments(locals())
        self.multiple_of = self.minimum = 2**depth
        self.per_image = norm != "batch"
        self.skips = skips
        levels = [width * min(2**level, 8) for level in range(depth)]  # channels after each halving
        fed = 2 if skips else 1
        self.down = nn.ModuleList([halve(in_channels, width, norm, normed=False)])
        self.down.extend(halve(levels[i - 1], levels[i], norm) for i in range(1, depth - 1))
        self.down.append(halve(levels[-2], levels[-1], norm, normed=False, relu=False))
        self.up = nn.ModuleList([double(levels[-1], levels[-2], norm, upsample, dropout=False)])
        for i in range(depth - 2, 0, -1):
            self.up.append(double(fed * levels[i], levels[i - 1], norm, upsample, dropout and i > 3))
        self.up.append(leave(fed * width, out_channels, upsample))

    def forward(self, images: Tensor) -> Tensor:
        *downs, bottom = self.down
        *ups, leave = self.up
        x, seen = images, []
        for down in downs:
            x = down(x)  # half the height and width
            seen.append(x)
        x = bottom(x)
        for up in ups:
            x = up(x)  # twice the height and width
            x = torch.cat((seen.pop(), x), 1) if self.skips else x
        return leave(x)


def halve(channels: int, to: int, norm: NormName, *, normed: bool = True, relu: bool = True) -> nn.Sequential:
    """(N, channels, H, W) to (N, to, H/2, W/2), with a norm and a ReLU after it or without."""
    conv = nn.Conv2d(channels, to, 4, stride=2, padding=1, bias=has_bias(norm))
    layers: dict[str, nn.Module] = {"conv": conv}
    if normed:
        layers |= {"conv": before_norm(conv, norm), "norm": norm_layer(norm, to)}
    if relu:
        layers["relu"] = nn.LeakyReLU(0.2, inplace=True)
    return nn.Sequential(OrderedDict(layers))


def double(channels: int, to: int, norm: NormName, upsample: UpsampleName, dropout: bool) -> nn.Sequential:
    """(N, channels, H, W) to (N, to, 2H, 2W)."""
    layers = {
        "relu": nn.ReLU(inplace=True),
        **upscale(upsample, channels, to, kernel=4, norm=norm),
        "norm": norm_layer(norm, to),
        "dropout": nn.Dropout(0.5) if dropout else nn.Identity(),
    }
    return nn.Sequential(OrderedDict(layers))


def leave(channels: int, out_channels: int, upsample: UpsampleName) -> nn.Sequential:
    layers = upscale(upsample, channels, out_channels, kernel=4, norm=None)
    return nn.Sequential(OrderedDict({"relu": nn.ReLU(inplace=True), **layers, "tanh": nn.Tanh()}))
