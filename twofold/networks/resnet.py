"""The ResNet generator of Johnson et al. 2016, as CycleGAN uses it (arXiv 1703.10593, appendix 7.2)."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from twofold.errors import UsageError
from twofold.networks.blur import BlurDown
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


class ResnetGenerator(Generator):
    """A 7×7 convolution, halvings, `blocks` residual blocks, as many doublings, a 7×7 convolution, tanh.

    Args:
        in_channels, out_channels: of the images.
        width: channels after the first convolution; each halving doubles them.
        blocks: residual blocks; the paper has 9 from 256 px on and 6 below.
        norm: after every convolution but the last.
        dropout: 0.5 in every block.
        upsample: how the doublings are made; see `layers.upscale`.
        antialias: halve by blurring, after a convolution of stride 1, as CUT does.
        halvings: of the sides, before the blocks; the paper has two.
    """

    skips = False
    last_kernel = 7

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        blocks: int = 9,
        norm: NormName = "instance",
        dropout: bool = False,
        upsample: UpsampleName = "transposed",
        antialias: bool = False,
        halvings: int = 2,
    ) -> None:
        super().__init__()
        self.arguments = arguments(locals()) | {"skips": self.skips}
        self.multiple_of = 2**halvings
        self.minimum = 2 * self.multiple_of  # the blocks' reflection needs two pixels
        self.per_image = norm != "batch"
        self.widths = [width * 2**level for level in range(halvings)]
        deepest = width * 2**halvings
        enter = reflecting(in_channels, width, 7, bias=has_bias(norm))
        self.enter = stage({"conv": before_norm(enter, norm)}, width, norm)
        self.down = nn.Sequential(*[halve(channels, norm, antialias) for channels in self.widths])
        self.blocks = nn.Sequential(*[ResidualBlock(deepest, norm, dropout) for _ in range(blocks)])
        self.up = nn.Sequential(*[double(2 * channels, norm, upsample) for channels in reversed(self.widths)])
        self.leave = nn.Sequential(OrderedDict(conv=reflecting(width, out_channels, self.last_kernel)))
        self.pad = nn.ReflectionPad2d(3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.enter(images)  # (N, width, H, W)
        x = self.down(x)  # (N, 2^h width, H/2^h, W/2^h) after h halvings
        x = self.blocks(x)
        x = self.up(x)  # (N, width, H, W)
        return torch.tanh(self.leave(x))

    def forward_with_features(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The translation, and what `features` gives, in one pass."""
        *found, x = self.features(images, [*layers, len(self.encoder())])
        return torch.tanh(self.leave(self.up(x))), found

    def features(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """The outputs of some encoder layers for images (N, in_channels, H, W), in the order of `layers`.

        Layers are numbered as in CUT: 0 is the padded image, 1 the first convolution, and so on with norms,
        activations and blurs to the last block (arXiv 2007.15651, appendix C.1). Later layers are not computed.
        """
        found, x = {0: self.pad(images)} if 0 in layers else {}, images
        for number, layer in enumerate(self.encoder()[: max(layers)], 1):
            if isinstance(layer, nn.ReLU) and number - 1 in layers:
                x = x.clone()  # the ReLU works in place
            x = layer(x)
            if number in layers:
                found[number] = x
        return [found[number] for number in layers]

    def encoder(self) -> list[nn.Module]:
        """The layers that `features` numbers, from 1: up to the last block."""
        halvings = [layer for down in self.down for layer in down]  # pyright: ignore[reportGeneralTypeIssues]
        return [*self.enter, *halvings, *self.blocks]

    def feature_channels(self, layers: Sequence[int]) -> list[int]:
        """Channels of the maps that `features` gives.

        Raises:
            UsageError: there are no such layers, or their numbers do not rise.
        """
        channels = [int(self.arguments["in_channels"])]
        for layer in self.encoder():
            channels.append(layer.out_channels if isinstance(layer, nn.Conv2d) else channels[-1])
        last = len(channels) - 1
        if list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] > last:
            given = ",".join(map(str, layers))
            raise UsageError(
                f"the generator has the layers 0 to {last}, not {given}; name some of these in rising order, such as"
                f" {','.join(map(str, range(0, last + 1, max(1, last // 4))))}"
            )
        return [channels[number] for number in layers]


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, norm: NormName, dropout: bool) -> None:
        super().__init__()
        self.conv1 = before_norm(reflecting(channels, channels, 3, bias=has_bias(norm)), norm)
        self.norm1 = norm_layer(norm, channels)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5) if dropout else nn.Identity()
        self.conv2 = before_norm(reflecting(channels, channels, 3, bias=has_bias(norm)), norm)
        self.norm2 = norm_layer(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.relu(self.norm1(self.conv1(x))))
        return x + self.norm2(self.conv2(y))


def reflecting(channels: int, to: int, kernel: int, *, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps height and width, with reflected edges."""
    return nn.Conv2d(channels, to, kernel, padding=kernel // 2, padding_mode="reflect", bias=bias)


def stage(convolve: dict[str, nn.Module], channels: int, norm: NormName) -> nn.Sequential:
    after = {"norm": norm_layer(norm, channels), "relu": nn.ReLU(inplace=True)}
    return nn.Sequential(OrderedDict(convolve | after))


def halve(channels: int, norm: NormName, antialias: bool) -> nn.Sequential:
    """(N, channels, H, W) to (N, 2 channels, H/2, W/2)."""
    conv = nn.Conv2d(channels, 2 * channels, 3, stride=1 if antialias else 2, padding=1, bias=has_bias(norm))
    layers = stage({"conv": before_norm(conv, norm)}, 2 * channels, norm)
    if antialias:
        layers.add_module("blur", BlurDown(2 * channels))
    return layers


def double(channels: int, norm: NormName, upsample: UpsampleName) -> nn.Sequential:
    """(N, channels, H, W) to (N, channels / 2, 2H, 2W)."""
    to = channels // 2
    return stage(upscale(upsample, channels, to, kernel=3, norm=norm), to, norm)
