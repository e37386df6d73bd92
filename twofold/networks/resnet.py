"""The ResNet generator of Johnson et al. 2016, as CycleGAN uses it (arXiv 1703.10593, appendix 7.2)."""

from collections import OrderedDict

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


class ResnetGenerator(Generator):
    """A 7×7 convolution, two halvings, `blocks` residual blocks, two doublings, a 7×7 convolution, tanh.

    Args:
        in_channels, out_channels: of the images.
        width: channels after the first convolution; the blocks have four times as many.
        blocks: residual blocks; the paper has 9 from 256 px on and 6 below.
        norm: after every convolution but the last.
        dropout: 0.5 in every block.
        upsample: how the doublings are made; see `layers.upscale`.
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
        }
        self.per_image = norm != "batch"
        enter = nn.Conv2d(in_channels, width, 7, padding=3, padding_mode="reflect", bias=has_bias(norm))
        leave = nn.Conv2d(width, out_channels, 7, padding=3, padding_mode="reflect")
        self.enter = stage({"conv": before_norm(enter, norm)}, width, norm)
        self.down = nn.Sequential(halve(width, norm), halve(2 * width, norm))
        self.blocks = nn.Sequential(*[ResidualBlock(4 * width, norm, dropout) for _ in range(blocks)])
        self.up = nn.Sequential(double(4 * width, norm, upsample), double(2 * width, norm, upsample))
        self.leave = nn.Sequential(OrderedDict(conv=leave, tanh=nn.Tanh()))

    def forward(self, images: Tensor) -> Tensor:
        x = self.enter(images)  # (N, width, H, W)
        x = self.down(x)  # (N, 4 width, H/4, W/4)
        x = self.blocks(x)
        x = self.up(x)  # (N, width, H, W)
        return self.leave(x)


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


def halve(channels: int, norm: NormName) -> nn.Sequential:
    """(N, channels, H, W) to (N, 2 channels, H/2, W/2)."""
    conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=has_bias(norm))
    return stage({"conv": before_norm(conv, norm)}, 2 * channels, norm)


def double(channels: int, norm: NormName, upsample: UpsampleName) -> nn.Sequential:
    """(N, channels, H, W) to (N, channels / 2, 2H, 2W)."""
    to = channels // 2
    return stage(upscale(upsample, channels, to, kernel=3, norm=norm), to, norm)
