"""Convolution layers that take whichever algorithm is fastest on this machine; the weights are torch's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twofold.networks import native, rounded
from twofold.networks.patches import FromImage, Strided, ToImage, Transposed
from twofold.networks.remade import kernels_of
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
        if bf16_here(input):
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
        if bf16_here(input):
            made = rounded.Transposed.apply(input.bfloat16(), self.weight, padding, more)
            return with_bias(made, self)
        if not computed_here(input):
            return super().forward(input, output_size)
        return with_bias(Transposed.apply(input, self.weight, padding, more), self)


def reflected(images: Tensor, edge: int) -> Tensor:
    """Images (N, C, H, W) with so many pixels around them that mirror those inside; bf16 stays bf16.

    Autocast on a CPU would make it float32, and the convolution's own cast bf16 again. On a GPU torch has no repeatable
    gradient of its own reflection, and refuses it where such are asked for.
    """
    if images.device.type != "cpu" and torch.are_deterministic_algorithms_enabled():
        return mirrored(images, edge)
    if not torch.is_autocast_enabled("cpu"):
        return F.pad(images, (edge,) * 4, "reflect")
    with torch.autocast("cpu", enabled=False):
        return F.pad(images, (edge,) * 4, "reflect")


def mirrored(images: Tensor, edge: int) -> Tensor:
    """The same as parts put side by side: each pixel's gradient is a sum in one order."""
    for side in (2, 3):
        length = images.shape[side]
        before, after = images.narrow(side, 1, edge), images.narrow(side, length - 1 - edge, edge)
        images = torch.cat([before.flip(side), images, after.flip(side)], side)
    return images


def eager_here(input: Tensor) -> bool:
    """Whether the input is on a CPU, and in no other program's hands: those have means of their own."""
    return input.device.type == "cpu" and not is_traced() and not torch.compiler.is_compiling()


def computed_here(input: Tensor) -> bool:
    """Whether the input is one for whose convolution the library is not known to be best."""
    return eager_here(input) and not torch.is_autocast_enabled("cpu")


def bf16_here(input: Tensor) -> bool:
    """Whether the input is to be convolved in bf16, by autocast's word."""
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return autocast and eager_here(input)


def bf16_kernels_here(input: Tensor) -> bool:
    """Whether it is, and kernels do what stands around the convolutions."""
    return bf16_here(input) and kernels_of(input) is not None


def with_bias(made: Tensor | None, layer: Conv2d | ConvTranspose2d) -> Tensor:
    assert made is not None
    if layer.bias is None or (layer.norm_follows and not layer.bias.requires_grad):
        return made
    return made.add_(layer.bias.to(made.dtype)[:, None, None])


def is_traced() -> bool:
    """Whether the network is being traced for an exporter, which knows torch's own operations only."""
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
