"""The ResNet generator of Johnson et al. 2016, as CycleGAN uses it (arXiv 1703.10593, appendix 7.2)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from twofold.errors import UsageError
from twofold.networks.blur import BlurDown
from twofold.networks.convolutions import Conv2d, is_traced, reflected
from twofold.networks.layers import (
    Generator,
    NormName,
    ReLU,
    UpsampleName,
    before_norm,
    has_bias,
    norm_layer,
    upscale,
)

NEARLY = 0.99
"""Of white and black a residual network starts at this much, for tanh reaches neither."""


class ResnetGenerator(Generator):
    """A 7×7 convolution, halvings, `blocks` residual blocks, as many doublings, a 7×7 convolution, tanh.

    Args:
        in_channels, out_channels: of the images.
        width: channels after the first convolution; each halving doubles them.
        blocks: residual blocks; the paper has 9 from 256 px on and 6 below.
        norm: after every convolution but the last.
        dropout: 0.5 in every block.
        upsample: how the doublings are made; see `layers.upscale`.
        halvings: of the sides, before the blocks; the paper has two.
        antialias: halve by blurring, after a convolution of stride 1, as CUT does.
        skips: hand detail around the bottleneck, as the papers' network does not: each doubling is joined with
            what the halving of its size was given, and with as many channels out as in, the network makes a
            change that is added to the image. Contents come through clean, and training starts from a copy.

    Attributes:
        recompute: keep the input of each block alone for the gradient, and compute the block once more when it is
            needed: less memory, the same numbers. Batch norms would count their statistics twice, so not with them.
    """

    recompute = False

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
        antialias: bool = False,
        halvings: int = 2,
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
            "antialias": antialias,
            "halvings": halvings,
        }
        self.multiple_of = 2**halvings
        self.minimum = 2 * self.multiple_of  # the blocks reflect a pixel, of two at least
        self.skips, self.residual = skips, skips and in_channels == out_channels
        self.per_image = norm != "batch"
        enter = Conv2d(in_channels, width, 7, padding=3, padding_mode="reflect", bias=has_bias(norm))
        reach = 1 if skips else 3
        leave = Conv2d(width, out_channels, 2 * reach + 1, padding=reach, padding_mode="reflect")
        self.enter = stage({"conv": before_norm(enter, norm)}, width, norm)
        widths = [width * 2**level for level in range(halvings)]
        self.down = nn.Sequential(*[halve(channels, norm, antialias) for channels in widths])
        deepest = width * 2**halvings
        self.blocks = nn.Sequential(*[ResidualBlock(deepest, norm, dropout) for _ in range(blocks)])
        self.up = nn.Sequential(*[double(2 * channels, norm, upsample) for channels in reversed(widths)])
        self.join = nn.ModuleList([join(channels) for channels in reversed(widths)] if skips else [])
        self.leave = nn.Sequential(OrderedDict(conv=leave))

    @overload
    def forward(self, images: Tensor) -> Tensor: ...
    @overload
    def forward(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, list[Tensor]]: ...
    def forward(
        self, images: Tensor, layers: Sequence[int] | None = None
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """The translation; if layers are named, with what `features` gives of them on the way."""
        x, passed, found = self.encode(images, layers or ())
        for level, up in enumerate(self.up):  # (N, 2^h width, H/2^h, W/2^h) after h halvings
            x = up(x)
            if self.skips:
                x = self.join[level](torch.cat((x, passed.pop()), 1))
        x = self.leave(x)
        x = torch.tanh(x + atanh(NEARLY * in_range(images))) if self.residual else torch.tanh(x)
        return x if layers is None else (x, found)

    def encode(
        self, images: Tensor, layers: Sequence[int], stop: int | None = None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """What the encoder, up to layer number `stop`, makes of images; what each halving was given; `features`."""
        twice = self.recompute and self.per_image and torch.is_grad_enabled()
        padded = reflected(images, 3) if 0 in layers else images
        found, passed, x = {0: padded}, [], images  # padded once more by the first convolution
        halving = {id(down[0]) for down in self.down}  # pyright: ignore[reportIndexIssue]
        for number, layer in enumerate(self.encoder()[:stop], 1):
            if self.skips and id(layer) in halving:
                passed.append(x)
            if isinstance(layer, nn.ReLU) and number - 1 in layers:
                x = x.clone()  # it works in place
            block = isinstance(layer, ResidualBlock)
            x = checkpoint(layer, x, use_reentrant=False) if twice and block else layer(x)
            if number in layers:
                found[number] = x
        return x, passed, [found[number] for number in layers]

    def encoder(self) -> list[nn.Module]:
        """The layers that `features` can show, from number 1 on: to the last block."""
        halvings = [layer for down in self.down for layer in down]  # pyright: ignore[reportGeneralTypeIssues]
        return [*self.enter, *halvings, *self.blocks]

    def features(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """What some layers give of images (N, in_channels, H, W), in the order of `layers`, which rises.

        Layers have the numbers of CUT's networks: 0 is the padded image, 1 the first convolution, and so on
        with norms, activations and blurs to the last block (arXiv 2007.15651, appendix C.1). Nothing after the
        last of them is computed.
        """
        return self.encode(images, layers, stop=layers[-1])[2]

    def feature_channels(self, layers: Sequence[int]) -> list[int]:
        """Channels of the maps that `features` gives.

        Raises:
            UsageError: there are no such layers, or they do not rise.
        """
        channels = [int(self.arguments["in_channels"])]
        for layer in self.encoder():
            channels.append(layer.out_channels if isinstance(layer, nn.Conv2d) else channels[-1])
        last = len(channels) - 1
        if list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] > last:
            wanted = " ".join(map(str, layers))
            raise UsageError(
                f"the generator has the layers 0 to {last}, not {wanted}; name some, in rising order"
            )
        return [channels[number] for number in layers]


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, norm: NormName, dropout: bool) -> None:
        super().__init__()
        self.conv1 = reflecting(channels, norm)
        self.norm1 = norm_layer(norm, channels)
        self.relu = ReLU()
        self.dropout = nn.Dropout(0.5) if dropout else nn.Identity()
        self.conv2 = reflecting(channels, norm)
        self.norm2 = norm_layer(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.relu(self.norm1(self.conv1(x))))
        return x + self.norm2(self.conv2(y))


def in_range(images: Tensor) -> Tensor:
    """Clamped to [-1, 1]; unlike clamp's own since torch 2.14, the gradient reaches what lies at an end, white and black."""
    return torch.where(images.abs() <= 1, images, images.detach().clamp(-1, 1))


def atanh(x: Tensor) -> Tensor:
    """torch's, but written out where the network is exported: its exporter knows no name for it."""
    return ((1 + x) / (1 - x)).log() / 2 if is_traced() else torch.atanh(x)


def reflecting(channels: int, norm: NormName) -> nn.Conv2d:
    conv = Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=has_bias(norm))
    return before_norm(conv, norm)


def stage(convolve: dict[str, nn.Module], channels: int, norm: NormName) -> nn.Sequential:
    after = {"norm": norm_layer(norm, channels), "relu": ReLU()}
    return nn.Sequential(OrderedDict(convolve | after))


def join(channels: int) -> nn.Sequential:
    """(N, 2 channels, H, W) to (N, channels, H, W); without a norm, so that levels come through as they are."""
    conv = Conv2d(2 * channels, channels, 3, padding=1, padding_mode="reflect")
    return nn.Sequential(OrderedDict(conv=conv, relu=ReLU()))


def halve(channels: int, norm: NormName, antialias: bool) -> nn.Sequential:
    """(N, channels, H, W) to (N, 2 channels, H/2, W/2)."""
    conv = Conv2d(channels, 2 * channels, 3, stride=1 if antialias else 2, padding=1, bias=has_bias(norm))
    layers = stage({"conv": before_norm(conv, norm)}, 2 * channels, norm)
    if antialias:
        layers.add_module("blur", BlurDown(2 * channels))
    return layers


def double(channels: int, norm: NormName, upsample: UpsampleName) -> nn.Sequential:
    """(N, channels, H, W) to (N, channels / 2, 2H, 2W)."""
    to = channels // 2
    return stage(upscale(upsample, channels, to, kernel=3, norm=norm), to, norm)
