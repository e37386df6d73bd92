"""Convolution layers that take whichever algorithm is fastest on this machine; the weights are torch's."""

import torch.nn.functional as F
from torch import Tensor, nn

from twofold.networks import native, rounded
from twofold.networks.eager import computed_here, rounding_here
from twofold.networks.edges import reflected
from twofold.networks.patches import FromImage, Strided, ToImage, Transposed
from twofold.networks.toom_cook import TILES
from twofold.networks.winograd import WinogradConv

WINOGRAD_FROM, NATIVE_FROM = 48 * 96, 32 * 32
"""Least product of channels in and out from which Winograd's convolution was faster than the library's: by torch's
operations, and by kernels compiled for it."""

FEW = 4
"""Channels of an image."""


class Conv2d(nn.Conv2d):
    """torch's convolution, with square kernels; on a CPU in float32 by matrix products where these are faster."""

    norm_follows = False
    """An instance norm does, which takes any bias away again: then none is added that takes no gradient."""

    def forward(self, input: Tensor) -> Tensor:
        if rounding_here(input):
            return self._rounded(input.bfloat16())
        if not computed_here(input):
            if self.padding_mode != "reflect":
                return super().forward(input)
            padded = reflected(input, int(self.padding[0]))
            return F.conv2d(padded, self.weight, self.bias, self.stride)
        inner, outer = self.in_channels, self.out_channels
        kernel, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        reflect = self.padding_mode == "reflect"
        least = NATIVE_FROM if native.kernels(input.dtype, inner, outer) else WINOGRAD_FROM
        if kernel in TILES and (stride, padding) == (1, 1) and inner * outer >= least:
            return with_bias(WinogradConv.apply(input, self.weight, reflect), self)
        if stride == 2 and not reflect:
            return with_bias(Strided.apply(input, self.weight, padding), self)
        if stride == 1 and kernel > 3 and outer <= FEW and padding == kernel // 2:
            return with_bias(ToImage.apply(input, self.weight, reflect), self)
        if stride == 1 and kernel > 3 and inner <= FEW:
            padded = reflected(input, padding) if reflect else F.pad(input, (padding,) * 4)
            return with_bias(FromImage.apply(padded, self.weight), self)
        return super().forward(input)

    def _rounded(self, images: Tensor) -> Tensor:
        stride, padding = self.stride[0], int(self.padding[0])
        if self.padding_mode == "reflect":
            images, padding = reflected(images, padding), 0
        return with_bias(rounded.Convolved.apply(images, self.weight, stride, padding), self)


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's transposed convolution of stride 2, likewise."""

    norm_follows = False

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        padding, more = int(self.padding[0]), self.output_padding[0]
        if rounding_here(input):
            return with_bias(rounded.Transposed.apply(input.bfloat16(), self.weight, padding, more), self)
        if not computed_here(input):
            return super().forward(input, output_size)
        return with_bias(Transposed.apply(input, self.weight, padding, more), self)


def with_bias(made: Tensor | None, layer: Conv2d | ConvTranspose2d) -> Tensor:
    assert made is not None
    if layer.bias is None or (layer.norm_follows and not layer.bias.requires_grad):
        return made
    return made.add_(layer.bias.to(made.dtype)[:, None, None])
