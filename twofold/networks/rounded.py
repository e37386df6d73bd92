"""Convolutions in bf16, as autocast has them on a CPU; their filters and these filters' gradients are float32.

The library's, but where maps are small and channels many a matrix product over patches: there the library spends its
time on laying out the filter anew, up to fifty times what the product takes. And gradients of filters by AMX, where the
processor has it, at one and a half times the library's rate. Gradients of gradients are the library's.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.networks import native
from twofold.networks.patches import as_filter, gathered, laid_out, patches, rows
from twofold.networks.products import multiply
from twofold.networks.remade import by_library
from twofold.networks.scratch import empty

PRODUCT_FROM = 2**20
"""Weights of a filter from which the library takes long to lay it out, and a product may be faster."""

WEIGHTS_PER_PIXEL, WEIGHTS_PER_PIXEL_OF_GRADIENT = 2**14, 2**11
"""Of the small sides of all images, from which it is: than the library's convolution, and than its filter's gradient."""

FEW_CHANNELS = 16
"""Under which a tile of AMX's is half empty."""

COUNTABLE = 2**30
"""Numbers of images for which AMX's kernel, which counts them in 32 bits, is not used, edges not counted."""


class Convolved(torch.autograd.Function):
    """The convolution of bf16 images (N, C, H, W) with a float32 filter (O, C, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        rounded = weight.to(images.dtype)
        ctx.save_for_backward(images, weight, rounded)
        ctx.how = stride, padding
        return convolved(images, rounded, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight, rounded = ctx.saved_tensors
        stride, padding = ctx.how
        if torch.is_grad_enabled():
            made = partial(conv2d, stride=stride, padding=padding)
            return *by_library(ctx, gradient, images, weight, made), None, None
        of_images, of_weight, *_ = ctx.needs_input_grad
        grad_images = spread(gradient, rounded, stride, padding, images.shape[2:]) if of_images else None
        grad_weight = filter_gradient(gradient, images, rounded, stride, padding) if of_weight else None
        return grad_images, grad_weight, None, None


class Transposed(torch.autograd.Function):
    """The transposed convolution of stride 2 of bf16 images (N, C, h, w) with a float32 filter (C, O, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: int, output_padding: int) -> Tensor:
        rounded = weight.to(images.dtype)
        ctx.save_for_backward(images, weight, rounded)
        ctx.how = padding, output_padding
        kernel = weight.shape[2]
        size = [2 * (side - 1) + kernel - 2 * padding + output_padding for side in images.shape[2:]]
        return spread(images, rounded, 2, padding, size)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight, rounded = ctx.saved_tensors
        padding, output_padding = ctx.how
        if torch.is_grad_enabled():
            made = partial(conv_transpose2d, padding=padding, output_padding=output_padding)
            return *by_library(ctx, gradient, images, weight, made), None, None
        of_images, of_weight, *_ = ctx.needs_input_grad
        grad_images = convolved(gradient, rounded, 2, padding) if of_images else None
        grad_weight = filter_gradient(images, gradient, rounded, 2, padding) if of_weight else None
        return grad_images, grad_weight, None, None


def conv2d(images: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
    return F.conv2d(images, weight.to(images.dtype), None, stride, padding)


def conv_transpose2d(images: Tensor, weight: Tensor, *, padding: int, output_padding: int) -> Tensor:
    return F.conv_transpose2d(images, weight.to(images.dtype), None, 2, padding, output_padding)


def convolved(images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The convolution of images with a filter, both in bf16."""
    size = [(side + 2 * padding - weight.shape[2]) // stride + 1 for side in images.shape[2:]]
    if is_product(len(images) * math.prod(size), weight):
        return gathered(images, weight, padding, size, stride)
    return F.conv2d(images, weight, None, stride, padding)


def is_product(pixels: int, weight: Tensor) -> bool:
    """Whether a convolution with so many pixels on its small sides is a product sooner."""
    return weight.numel() >= max(PRODUCT_FROM, pixels * WEIGHTS_PER_PIXEL)


def spread(small: Tensor, weight: Tensor, stride: int, padding: int, size: Sequence[int]) -> Tensor:
    """The transposed convolution: what the pixels of (N, O, h, w) add to those of (N, C, *size), both in bf16."""
    if is_product(len(small) * small.shape[2:].numel(), weight):
        return laid_out(small, weight, padding, size, stride)
    height, width = size
    # The library asks for its shape alone, but lays it out where it is not channels-last.
    large = empty(len(small), weight.shape[1], height, width, like=small)
    return by_convolution(small, large, weight, stride, padding, [True, False, False])[0]


def filter_gradient(small: Tensor, large: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Of a convolution from `large` to `small`, in bf16, or a transposed one from `small` to `large`; in float32."""
    outer, inner, kernel, _ = weight.shape
    if (kernels := native.kernels(small.dtype, tiled=False)) and kernels.amx and large.numel() < COUNTABLE:
        padded = F.pad(large, (padding,) * 4) if padding else large
        if outer >= FEW_CHANNELS:
            return as_filter(by_tiles(kernels, small, padded, stride, kernel), weight)
        if (
            inner >= FEW_CHANNELS and stride == 1
        ):  # the other way round: the pixels of `small` that meet each of `large`
            taps = by_tiles(kernels, padded, F.pad(small, (kernel - 1,) * 4), 1, kernel)
            return as_filter(taps.flip(1, 2).transpose(0, 3), weight)
    if weight.numel() < len(small) * small.shape[2:].numel() * WEIGHTS_PER_PIXEL_OF_GRADIENT:
        return by_convolution(small, large, weight, stride, padding, [False, True, False])[1].float()
    taps = small.new_empty(outer, weight[0].numel())
    multiply(rows(small).T, patches(F.pad(large, (padding,) * 4), kernel, stride), taps)
    return as_filter(taps.float(), weight)


def by_tiles(kernels: native.Kernels, small: Tensor, large: Tensor, stride: int, kernel: int) -> Tensor:
    """Float32 taps (O, k, k, C) of a filter from `large`, with its edges, to `small`, (N, O, h, w)."""
    small, large = (x.permute(0, 2, 3, 1).contiguous() for x in (small, large))
    taps = torch.empty(small.shape[3], kernel, kernel, large.shape[3])
    kernels.filter_gradient(small, large, stride, taps)
    return taps


def by_convolution(
    small: Tensor, large: Tensor, weight: Tensor, stride: int, padding: int, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """The library's gradients of images, filter and bias."""
    return torch.ops.aten.convolution_backward(
        small, large, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, wanted
    )
