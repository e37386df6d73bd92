"""Strided and transposed convolutions whose filter gradients are one matrix product over patches of the image.

The CPU library's filter gradients are slow for strided convolutions. Where maps are small and channels many, it spends its
time on the layout of the filter; there the convolution itself is a product over patches as well.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

from twofold.cpu.gradients import by_torch, pixels
from twofold.cpu.scratch import empty, scratch

FEW_PIXELS = 16 * 16
"""Pixels of the small side of a strided convolution up to which it is faster as a product."""

VERY_FEW = 4 * 4
"""Pixels of the small side of a transposed convolution up to which it is faster as a product."""


class StridedConv(torch.autograd.Function):
    """The convolution of stride 2 of images (N, C, H, W) with a filter (O, C, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding = padding
        h, w = ((side + 2 * padding - weight.shape[2]) // 2 + 1 for side in images.shape[2:])
        if h * w > FEW_PIXELS:
            return F.conv2d(images, weight, None, 2, padding)
        return conv_by_product(images, weight, 2, padding, (h, w))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
        of_images, of_weight, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():
            convolve = partial(F.conv2d, stride=2, padding=ctx.padding)
            return *by_torch(ctx, gradient, images, weight, convolve), None
        grad_images = grad_weight = None
        if of_weight:
            grad_weight = filter_gradient(gradient, images, weight, 2, ctx.padding)
        if of_images and gradient.shape[2:].numel() > FEW_PIXELS:
            grad_images = conv2d_input(images.shape, weight, gradient, 2, ctx.padding)
        elif of_images:
            grad_images = transposed_by_product(gradient, weight, 2, ctx.padding, images.shape[2:])
        return grad_images, grad_weight, None


class TransposedConv(torch.autograd.Function):
    """The transposed convolution of stride 2 of images (N, C, h, w) with a filter (C, O, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: int, output_padding: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding, ctx.output_padding = padding, output_padding
        if images.shape[2:].numel() > VERY_FEW:
            return F.conv_transpose2d(images, weight, None, 2, padding, output_padding)
        size = transposed_size(images, weight, padding, output_padding)
        return transposed_by_product(images, weight, 2, padding, size)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            more = {"padding": ctx.padding, "output_padding": ctx.output_padding}
            convolve = partial(F.conv_transpose2d, stride=2, **more)
            return *by_torch(ctx, gradient, images, weight, convolve), None, None
        of_images, of_weight, *_ = ctx.needs_input_grad
        grad_images = empty(images.shape, images.dtype) if of_images else None
        taps = images.new_empty(len(weight), weight[0].numel()) if of_weight else None
        for place, one in enumerate(F.pad(gradient, (ctx.padding,) * 4).split(1)):
            squares = patches(one, weight.shape[2], 2)
            if grad_images is not None:
                torch.mm(squares, flat(weight).T, out=rows(grad_images[place : place + 1]))
            if taps is not None:
                add_product(taps, rows(images[place : place + 1]).T, squares, first=place == 0)
        return grad_images, None if taps is None else as_filter(taps, weight), None, None


def transposed_size(images: Tensor, weight: Tensor, padding: int, output_padding: int) -> list[int]:
    """Height and width of the output of a transposed convolution of stride 2."""
    return [2 * (side - 1) + weight.shape[2] - 2 * padding + output_padding for side in images.shape[2:]]


def filter_gradient(small: Tensor, large: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Of a convolution from `large` to `small`, or a transposed one from `small` to `large`; strides of `weight`."""
    taps = small.new_empty(small.shape[1], weight[0].numel())
    for place, one in enumerate(F.pad(large, (padding,) * 4).split(1)):
        squares = patches(one, weight.shape[2], stride)
        add_product(taps, rows(small[place : place + 1]).T, squares, first=place == 0)
    return as_filter(taps, weight)


def add_product(total: Tensor, left: Tensor, right: Tensor, *, first: bool) -> None:
    """Add left times right to `total`, whose previous content is ignored for the first product."""
    torch.addmm(total, left, right, beta=0.0 if first else 1.0, out=total)


def conv_by_product(images: Tensor, weight: Tensor, stride: int, padding: int, size: Sequence[int]) -> Tensor:
    """The convolution as a product over patches: images (N, C, H, W) and a filter (O, C, k, k) to (N, O, *size)."""
    squares = patches(F.pad(images, (padding,) * 4), weight.shape[2], stride)
    made = empty((len(images), len(weight), *size), images.dtype)
    torch.mm(squares, flat(weight).T, out=rows(made))
    return made


def transposed_by_product(
    images: Tensor, weight: Tensor, stride: int, padding: int, size: Sequence[int]
) -> Tensor:
    """The transposed convolution as a product: what each pixel adds to its square, then the sum of all.

    Images (N, C, h, w) and a filter (C, O, k, k) to (N, O, *size).
    """
    n, _, h, w = images.shape
    _, o, kernel, _ = weight.shape
    shares = (rows(images) @ flat(weight)).view(n, h, w, kernel, kernel, o)
    total = images.new_zeros(n, size[0] + 2 * padding, size[1] + 2 * padding, o)
    reach_y, reach_x = (stride * (side - 1) + 1 for side in (h, w))
    for y in range(kernel):
        for x in range(kernel):
            total[:, y : y + reach_y : stride, x : x + reach_x : stride] += shares[:, :, :, y, x]
    inner = total[:, padding : padding + size[0], padding : padding + size[1]]
    return inner.permute(0, 3, 1, 2).clone(memory_format=torch.channels_last)


def flat(weight: Tensor) -> Tensor:
    """A filter (O, C, k, k) as (O, k · k · C); the same memory if it is channels-last."""
    return pixels(weight).reshape(len(weight), -1)


def as_filter(taps: Tensor, weight: Tensor) -> Tensor:
    """What `flat` gave as (O, C, k, k) again, with the strides of `weight`."""
    o, c, kernel, _ = weight.shape
    made = taps.reshape(o, kernel, kernel, c).permute(0, 3, 1, 2)
    if made.stride() == weight.stride():
        return made
    return torch.empty_like(weight, dtype=made.dtype).copy_(made)


def rows(images: Tensor) -> Tensor:
    """(N, C, H, W) as (N H W, C); the same memory if it is channels-last."""
    return pixels(images).reshape(-1, images.shape[1])


def patches(images: Tensor, kernel: int, stride: int) -> Tensor:
    """The squares that a filter meets: (N, C, H, W) to (N h w, kernel · kernel · C), in scratch memory."""
    squares = pixels(images).unfold(1, kernel, stride).unfold(2, kernel, stride).permute(0, 1, 2, 4, 5, 3)
    laid = scratch("patches", squares.shape, images.dtype).copy_(squares)
    return laid.view(-1, kernel * kernel * images.shape[1])
