"""Convolutions and instance norm of bf16 images, as autocast has them on a CPU; filters and their gradients are float32.

Convolutions are torch's, except where maps are small and channels many: there the library spends up to fifty times as
long on the layout of the filter as a matrix product over patches takes. Filter gradients are computed by AMX where the
processor has it, at one and a half times the library's rate.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.cpu.filter_gradients import (
    as_filter,
    conv_by_product,
    patches,
    rows,
    transposed_by_product,
    transposed_size,
)
from twofold.cpu.gradients import Grads, pixels
from twofold.cpu.native import Kernels
from twofold.cpu.scratch import empty
from twofold.networks.layers import norm_in_layout

PRODUCT_FROM = 2**20
"""Weights of a filter from which a product may be faster."""

WEIGHTS_PER_PIXEL, WEIGHTS_PER_PIXEL_OF_GRADIENT = 2**14, 2**11
"""Weights for each pixel of the small sides of all images from which a product is faster than the library's convolution,
and than its filter gradient."""

FEW_CHANNELS = 16
"""Channels under which a tile of AMX's is half empty."""

COUNTABLE = 2**30
"""Values of images from which the AMX kernel, which counts them in 32 bits, is not used; edges are not counted."""


class RoundedConv(NamedTuple):
    """The convolution of bf16 images (N, C, H, W) with a float32 filter (O, C, k, k) that is rounded to bf16."""

    stride: int
    padding: int
    kernels: Kernels | None

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        size = [(side + 2 * self.padding - weight.shape[2]) // self.stride + 1 for side in images.shape[2:]]
        if is_product(len(images) * math.prod(size), weight):
            return conv_by_product(images, weight, self.stride, self.padding, size)
        return self.by_torch(images, weight)

    def gradients(self, gradient: Tensor, images: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> Grads:
        size = images.shape[2:]
        return (
            transposed(gradient, weight, self.stride, self.padding, size) if wanted[0] else None,
            filter_gradient(gradient, images, weight, *self) if wanted[1] else None,
        )

    def by_torch(self, images: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(images, weight, None, self.stride, self.padding)


class RoundedTransposedConv(NamedTuple):
    """The transposed convolution of stride 2 of bf16 images (N, C, h, w) with a float32 filter (C, O, k, k)."""

    padding: int
    output_padding: int
    kernels: Kernels | None

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        size = transposed_size(images, weight, self.padding, self.output_padding)
        return transposed(images, weight, 2, self.padding, size)

    def gradients(self, gradient: Tensor, images: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> Grads:
        back = RoundedConv(2, self.padding, self.kernels)
        return (
            back.convolved(gradient, weight) if wanted[0] else None,
            filter_gradient(images, gradient, weight, *back) if wanted[1] else None,
        )

    def by_torch(self, images: Tensor, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(images, weight, None, 2, self.padding, self.output_padding)


class NativeNorm(torch.autograd.Function):
    """Instance norm of channels-last bf16 images (N, C, H, W), C a multiple of 8, by C kernels."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, eps: float, kernels: Kernels) -> Tensor:
        made = torch.empty_like(images)
        mean, scale = (images.new_empty(images.shape[:2], dtype=torch.float32) for _ in range(2))
        kernels.normed(pixels(images), pixels(made), mean, scale, eps)
        ctx.save_for_backward(images, mean, scale)
        ctx.how = eps, kernels
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, mean, scale = ctx.saved_tensors
        eps, kernels = ctx.how
        if torch.is_grad_enabled():
            normed = norm_in_layout(images, None, None, eps)
            return torch.autograd.grad(normed, images, gradient, create_graph=True)[0], None, None
        made = torch.empty_like(images)
        kernels.normed_back(pixels(gradient).contiguous(), pixels(images), mean, scale, pixels(made))
        return made, None, None


class HalvedByBlur(torch.autograd.Function):
    """The convolution of stride 2 of each channel of padded bf16 images (N, C, H, W) with a symmetric filter (C, 1, 3, 3).

    Its gradient is a convolution of stride 1 of the result's gradient with zeros between its pixels. The library's
    gradient of a stride of 2 takes up to twenty times as long in bf16.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, filters: Tensor) -> Tensor:
        ctx.save_for_backward(filters)
        ctx.size = padded.shape
        return F.conv2d(padded, filters, stride=2, groups=len(filters))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (filters,) = ctx.saved_tensors
        spread = empty(ctx.size, gradient.dtype).zero_()
        spread[:, :, 1:-1:2, 1:-1:2] = gradient
        return F.conv2d(spread, filters, padding=1, groups=len(filters)), None


def is_product(small_pixels: int, weight: Tensor) -> bool:
    """Whether a convolution is faster as a product, by the pixels of the small sides of all images."""
    return weight.numel() >= max(PRODUCT_FROM, small_pixels * WEIGHTS_PER_PIXEL)


def transposed(small: Tensor, weight: Tensor, stride: int, padding: int, size: Sequence[int]) -> Tensor:
    """The transposed convolution of (N, O, h, w) to (N, C, *size) with a filter (O, C, k, k), all in bf16."""
    if is_product(len(small) * small.shape[2:].numel(), weight):
        return transposed_by_product(small, weight, stride, padding, size)
    # The library needs only its shape, but lays it out anew where it is not channels-last. It is never written, so it is
    # no memory; torch's own allocator would count it.
    shape = len(small), *size, weight.shape[1]
    large = torch.from_numpy(np.empty(shape, np.int16)).view(small.dtype).permute(0, 3, 1, 2)
    return convolution_backward(small, large, weight, stride, padding, [True, False, False])[0]


def filter_gradient(
    small: Tensor, large: Tensor, weight: Tensor, stride: int, padding: int, kernels: Kernels | None
) -> Tensor:
    """Of a convolution from `large` to `small`, in bf16, or a transposed one from `small` to `large`; in float32."""
    outer, inner, kernel, _ = weight.shape
    if kernels and kernels.amx and large.numel() < COUNTABLE:
        padded = F.pad(large, (padding,) * 4) if padding else large
        if outer >= FEW_CHANNELS:
            return as_filter(by_amx(kernels, small, padded, stride, kernel), weight)
        if inner >= FEW_CHANNELS and stride == 1:  # the pixels of `small` that meet each pixel of `large`
            taps = by_amx(kernels, padded, F.pad(small, (kernel - 1,) * 4), 1, kernel)
            return as_filter(taps.flip(1, 2).transpose(0, 3), weight)
    if weight.numel() < len(small) * small.shape[2:].numel() * WEIGHTS_PER_PIXEL_OF_GRADIENT:
        return convolution_backward(small, large, weight, stride, padding, [False, True, False])[1].float()
    taps = rows(small).T @ patches(F.pad(large, (padding,) * 4), kernel, stride)
    return as_filter(taps.float(), weight)


def by_amx(kernels: Kernels, small: Tensor, large: Tensor, stride: int, kernel: int) -> Tensor:
    """Float32 taps (O, k, k, C) of a filter from `large`, with its edges, to `small`, (N, O, h, w)."""
    small, large = (pixels(x).contiguous() for x in (small, large))
    taps = torch.empty(small.shape[3], kernel, kernel, large.shape[3], device="cpu")
    kernels.filter_gradient(small, large, stride, taps)
    return taps


def convolution_backward(
    small: Tensor, large: Tensor, weight: Tensor, stride: int, padding: int, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """The library's gradients of images, filter and bias, as far as they are wanted."""
    return torch.ops.aten.convolution_backward(
        small, large, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, wanted
    )
