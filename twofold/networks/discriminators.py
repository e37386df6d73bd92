"""Discriminators: PatchGAN, PixelGAN, ImageGAN (pix2pix, arXiv 1611.07004, §3.3 and appendix 6.1.2), and several as one."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from twofold.networks.blur import BlurDown
from twofold.networks.layers import Discriminator, NormName, arguments, before_norm, has_bias, norm_layer


class PatchDiscriminator(Discriminator):
    """A logit for each patch of the image: 70×70 with three layers, 16×16 with one, 34×34 with two.

    Args:
        in_channels: of the images, or of image and condition together.
        width: channels after the first convolution; each layer doubles them, up to eight times as many.
        layers: stride-2 convolutions, at least 1; two of stride 1 follow them.
        norm: after every convolution but the first and the last.
        antialias: halve by blurring, after a convolution of stride 1, as CUT does.
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 64,
        layers: int = 3,
        norm: NormName = "instance",
        antialias: bool = False,
    ) -> None:
        super().__init__()
        self.arguments = arguments(locals())
        self.minimum = 3 * 2**layers  # each of the two last convolutions takes one from the side
        levels = [width * min(2**level, 8) for level in range(layers + 1)]
        self.convs = nn.Sequential()
        for level, to in enumerate(levels):
            halves = level < layers
            channels = levels[level - 1] if level else in_channels
            self.convs.extend(stage(channels, to, halves and not antialias, norm if level else None))
            if halves and antialias:
                self.convs.append(BlurDown(to))
        self.convs.append(nn.Conv2d(levels[-1], 1, 4, padding=1))


class ImageDiscriminator(PatchDiscriminator):
    """One logit for the whole image, (N, 1, 1, 1): the mean over patches of 286×286 pixels, five layers deep."""

    def __init__(
        self, in_channels: int = 3, width: int = 64, norm: NormName = "instance", antialias: bool = False
    ) -> None:
        super().__init__(in_channels, width, layers=5, norm=norm, antialias=antialias)
        del self.arguments["layers"]

    def forward(self, images: Tensor) -> Tensor:
        return self.convs(images).mean((2, 3), keepdim=True)


class PixelDiscriminator(Discriminator):
    """A logit for each pixel, (N, 1, H, W), from 1×1 convolutions: it judges colours alone.

    Args:
        in_channels: of the images, or of image and condition together.
        width: channels after the first convolution; twice as many after the second.
        norm: after the second convolution.
    """

    def __init__(self, in_channels: int = 3, width: int = 64, norm: NormName = "instance") -> None:
        super().__init__()
        self.arguments = arguments(locals())
        self.minimum = 1 if norm == "none" else 2  # one pixel has no variance
        self.convs = nn.Sequential(
            nn.Conv2d(in_channels, width, 1),
            nn.LeakyReLU(0.2, inplace=True),
            before_norm(nn.Conv2d(width, 2 * width, 1, bias=has_bias(norm)), norm),
            norm_layer(norm, 2 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * width, 1, 1, bias=has_bias(norm)),
        )


class HalvingDiscriminator(Discriminator):
    """A logit for each 16th of the side: the PatchGAN of PyTorch-GAN, four halvings and one convolution.

    Args:
        in_channels: of the images, or of image and condition together.
        width: channels after the first halving; each doubles them, up to eight times as many.
        norm: after every halving but the first.
    """

    minimum = 32  # at the deepest level, one pixel would have no variance

    def __init__(self, in_channels: int = 3, width: int = 64, norm: NormName = "instance") -> None:
        super().__init__()
        self.arguments = arguments(locals())
        levels = [width * 2**level for level in range(4)]
        self.convs = nn.Sequential(*stage(in_channels, width, True, None))
        for channels, to in pairwise(levels):
            self.convs.extend(stage(channels, to, True, norm))
        self.convs.append(nn.ZeroPad2d((1, 0, 1, 0)))  # left and top: a 4×4 window then keeps the size
        self.convs.append(nn.Conv2d(levels[-1], 1, 4, padding=1))


class MultiDiscriminator(Discriminator):
    """Several discriminators as one: a tuple of logits, by scale and then by discriminator.

    On each scale the image has half the side of the one before, by means of 3×3 pixels (pix2pixHD, arXiv
    1711.11585, §3.2). Discriminators of one scale and depth differ by their first weights alone: averaging their
    losses is the alternative to a replay buffer that CycleGAN's authors name.

    Args:
        scales: the discriminators of each scale, the first at the images' own.
    """

    def __init__(self, scales: Sequence[Sequence[Discriminator]]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.ModuleList(discriminators) for discriminators in scales)
        every = [discriminator for discriminators in scales for discriminator in discriminators]
        self.minimum = max(each.minimum for each in every) * 2 ** (len(scales) - 1)
        self.arguments = {"scales": len(scales), "count": len(scales[0])} | every[0].arguments

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits: list[Tensor] = []
        for scale, discriminators in enumerate(self.scales):
            if scale:
                images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
            assert isinstance(discriminators, nn.ModuleList)
            logits += [discriminator(images) for discriminator in discriminators]
        return tuple(logits)


def stage(channels: int, to: int, halves: bool, norm: NormName | None) -> list[nn.Module]:
    """A 4×4 convolution, a norm unless it is None, LeakyReLU."""
    bias = norm is None or has_bias(norm)
    conv = nn.Conv2d(channels, to, 4, stride=2 if halves else 1, padding=1, bias=bias)
    normed = [] if norm is None else [before_norm(conv, norm), norm_layer(norm, to)]
    return [*(normed or [conv]), nn.LeakyReLU(0.2, inplace=True)]
