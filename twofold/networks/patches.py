"""Convolutions, or their gradients, as one matrix product over patches, where that beats the CPU library's.

The library's weight gradients are slow for strided convolutions; where maps are small and channels many it spends its time
on the weights' layout; and with an image's few channels on one side it leaves most of each vector empty. Gradients of
gradients are the library's.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

from twofold.networks import native
from twofold.networks.products import multiply
from twofold.networks.remade import Grads, by_library, keep, kept
from twofold.networks.scratch import empty, scratch
from twofold.networks.winograd import Plan, convolved, fill_gradients, gradients, planned

FEW_PIXELS = 16 * 16
"""Of the small side of a strided convolution, up to which it is sooner a product: the library lays out all weights anew."""

PHASED_FROM = 512
"""Of the small sides of all images, from which Winograd's convolution over four phases is faster than either."""

VERY_FEW = 4 * 4
"""Of the small side of a transposed convolution, up to which it is sooner a product."""


class Strided(torch.autograd.Function):
    """The convolution of stride 2 of images (N, C, H, W) with a filter (O, C, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: int) -> Tensor:
        keep(ctx, images, weight)
        ctx.padding = padding
        n, _, height, width = images.shape
        kernel = weight.shape[2]
        h, w = ((side + 2 * padding - kernel) // 2 + 1 for side in (height, width))
        if how := phased(n, (height, width), weight, padding):
            return convolved(images, weight, how)
        if h * w > FEW_PIXELS:
            return F.conv2d(images, weight, None, 2, padding)
        return gathered(images, weight, padding, (h, w), 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = kept(ctx)
        of_images, of_weight, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():
            conv = partial(F.conv2d, stride=2, padding=ctx.padding)
            return *by_library(ctx, gradient, images, weight, conv), None
        if how := phased(len(images), images.shape[2:], weight, ctx.padding):
            return *gradients(gradient, images, weight, how, of_images, of_weight), None
        grad_images = grad_weight = None
        if of_weight:
            grad_weight = filter_gradient(gradient, images, weight, 2, ctx.padding)
        if of_images and gradient.shape[2:].numel() > FEW_PIXELS:
            grad_images = conv2d_input(images.shape, weight, gradient, 2, ctx.padding)
        elif of_images:
            grad_images = laid_out(gradient, weight, ctx.padding, images.shape[2:])
        return grad_images, grad_weight, None


class Transposed(torch.autograd.Function):
    """The transposed convolution of stride 2, filter (C, O, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: int, output_padding: int) -> Tensor:
        keep(ctx, images, weight)
        ctx.padding, ctx.output_padding = padding, output_padding
        h, w = images.shape[2:]
        kernel = weight.shape[2]
        size = tuple(2 * (side - 1) + kernel - 2 * padding + output_padding for side in (h, w))
        if how := phased(len(images), size, weight, padding):
            made = empty(len(images), weight.shape[1], *size, like=images)
            fill_gradients(images, made, weight, how, made, None)  # of itself it asks the size alone
            return made
        if h * w > VERY_FEW:
            return F.conv_transpose2d(images, weight, None, 2, padding, output_padding)
        return laid_out(images, weight, padding, size)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = kept(ctx)
        if torch.is_grad_enabled():
            conv = partial(
                F.conv_transpose2d, stride=2, padding=ctx.padding, output_padding=ctx.output_padding
            )
            return *by_library(ctx, gradient, images, weight, conv), None, None
        of_images, of_weight, *_ = ctx.needs_input_grad
        if how := phased(len(gradient), gradient.shape[2:], weight, ctx.padding):
            grad_images = convolved(gradient, weight, how) if of_images else None
            _, grad_weight = gradients(images, gradient, weight, how, False, of_weight)
            return grad_images, grad_weight, None, None
        padded = F.pad(gradient, (ctx.padding,) * 4)
        grad_images = empty(*images.shape, like=images) if of_images else None
        taps = images.new_empty(len(weight), weight[0].numel()) if of_weight else None
        for place, one in enumerate(padded.split(1)):
            squares = patches(one, weight.shape[2], 2)
            if grad_images is not None:
                multiply(squares, flat(weight).T, rows(grad_images[place : place + 1]))
            if taps is not None:
                multiply(rows(images[place : place + 1]).T, squares, taps, add=place > 0)
        return grad_images, None if taps is None else as_filter(taps, weight), None, None


class FromImage(torch.autograd.Function):
    """The library's convolution of padded images of few channels, (N, C, H, W), stride 1, filter (O, C, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        keep(ctx, images, weight)
        return F.conv2d(images, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Grads:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = kept(ctx)
        if torch.is_grad_enabled():
            return by_library(ctx, gradient, images, weight, F.conv2d)
        of_images, of_weight = ctx.needs_input_grad
        return (
            overlapped(weight.permute(1, 2, 3, 0), gradient) if of_images else None,
            filter_gradient(gradient, images, weight, 1, 0) if of_weight else None,
        )


class ToImage(torch.autograd.Function):
    """The same to few channels, O: what each pixel adds to the patch around it, then the sum of all that overlap.

    Images as they are; their edge is reflected, or zeros are put around it, by half the filter.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, reflect: bool) -> Tensor:
        keep(ctx, images, weight)
        ctx.reflect = reflect
        padded = bordered(images, weight, reflect)
        _, _, height, width = padded.shape
        reach = weight.shape[2] - 1
        whole = overlapped(weight.flip(2, 3).permute(0, 2, 3, 1), padded)
        return whole[:, :, reach:height, reach:width].clone()  # a view may not be changed in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = kept(ctx)
        if torch.is_grad_enabled():
            return *by_library(
                ctx, gradient, images, weight, lambda x, w: F.conv2d(bordered(x, w, ctx.reflect), w)
            ), None
        of_images, of_weight, _ = ctx.needs_input_grad
        n, c, kernel, reach = len(images), images.shape[1], weight.shape[2], weight.shape[2] // 2
        padded = bordered(images, weight, ctx.reflect)
        turned = weight.flip(2, 3).permute(2, 3, 0, 1)  # (k, k, O, C)
        whole = F.pad(gradient, (kernel - 1,) * 4)
        grad_padded = empty(*padded.shape, like=images) if of_images else None
        taps = images.new_empty(turned.numel() // c, c) if of_weight else None
        for place in range(n):
            around = patches(whole[place : place + 1], kernel, 1)  # (H W, k k O)
            if grad_padded is not None:
                multiply(around, turned.reshape(-1, c), rows(grad_padded[place : place + 1]))
            if taps is not None:
                multiply(around.T, rows(padded[place : place + 1]), taps, add=place > 0)
        grad_images = grad_weight = None
        if grad_padded is not None:
            if ctx.reflect:
                grad_images = torch.ops.aten.reflection_pad2d_backward(grad_padded, images, (reach,) * 4)
            else:
                grad_images = grad_padded[:, :, reach:-reach, reach:-reach]
        if taps is not None:
            grad_weight = taps.view(turned.shape).permute(2, 3, 0, 1).flip(2, 3)
            grad_weight = torch.empty_like(weight).copy_(grad_weight)
        return grad_images, grad_weight, None


def phased(count: int, large: Sequence[int], weight: Tensor, padding: int) -> Plan | None:
    """How Winograd's convolution does one of stride 2, from or to so many images of that height and width, where it is faster."""
    few = count * (large[0] // 2) * (large[1] // 2) < PHASED_FROM
    kernels = native.kernels(weight.dtype, *weight.shape[:2])
    if few or not kernels or (weight.shape[2], padding) != (4, 1):
        return None
    if not weight.is_contiguous(memory_format=torch.channels_last):
        return None
    return planned(*large, 4, False, 2, weight.dtype)


def bordered(images: Tensor, weight: Tensor, reflect: bool) -> Tensor:
    return F.pad(images, (weight.shape[2] // 2,) * 4, "reflect" if reflect else "constant")


def filter_gradient(small: Tensor, large: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Of a convolution from `large` to `small`, or a transposed one from `small` to `large`; strides of `weight`."""
    kernel = weight.shape[2]
    taps = small.new_empty(small.shape[1], weight[0].numel())
    for place, one in enumerate(F.pad(large, (padding,) * 4).split(1)):
        squares = patches(one, kernel, stride)
        multiply(rows(small[place : place + 1]).T, squares, taps, add=place > 0)
    return as_filter(taps, weight)


def flat(weight: Tensor) -> Tensor:
    """A filter (O, C, k, k) as (O, k · k · C); of a channels-last one, the same memory."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def as_filter(taps: Tensor, weight: Tensor) -> Tensor:
    """What `flat` gave as (O, C, k, k) again, with the strides of `weight`."""
    o, c, kernel, _ = weight.shape
    made = taps.reshape(o, kernel, kernel, c).permute(0, 3, 1, 2)
    if made.stride() == weight.stride():
        return made
    return torch.empty_like(weight, dtype=made.dtype).copy_(made)


def gathered(images: Tensor, weight: Tensor, padding: int, size: Sequence[int], stride: int) -> Tensor:
    """The convolution as a product: images (N, C, H, W) and a filter (O, C, k, k) to (N, O, *size)."""
    squares = patches(F.pad(images, (padding,) * 4), weight.shape[2], stride)
    height, width = size
    made = empty(len(images), len(weight), height, width, like=images)
    multiply(squares, flat(weight).T, rows(made))
    return made


def laid_out(images: Tensor, weight: Tensor, padding: int, size: Sequence[int], stride: int = 2) -> Tensor:
    """The transposed convolution as a product: what each pixel adds to its square, then the sum of all.

    Images (N, C, h, w) and a filter (C, O, k, k) to (N, O, *size).
    """
    n, _, h, w = images.shape
    _, o, kernel, _ = weight.shape
    shares = images.new_empty(n, h, w, kernel, kernel, o)
    multiply(rows(images), flat(weight), shares.view(n * h * w, -1))
    total = images.new_zeros(n, size[0] + 2 * padding, size[1] + 2 * padding, o)
    reach_y, reach_x = (stride * (side - 1) + 1 for side in (h, w))
    for y in range(kernel):
        for x in range(kernel):
            total[:, y : y + reach_y : stride, x : x + reach_x : stride] += shares[:, :, :, y, x]
    inner = total[:, padding : padding + size[0], padding : padding + size[1]]
    return inner.permute(0, 3, 1, 2).clone(memory_format=torch.channels_last)


def rows(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N H W, C), the same memory if a pixel's channels lie side by side."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def patches(images: Tensor, kernel: int, stride: int) -> Tensor:
    """The squares that a filter meets: (N, C, H, W) to (N h w, kernel · kernel · C), in scratch memory."""
    squares = images.permute(0, 2, 3, 1).unfold(1, kernel, stride).unfold(2, kernel, stride)
    squares = squares.permute(0, 1, 2, 4, 5, 3)
    laid = scratch("patches", squares.shape, images.dtype).copy_(squares)
    return laid.view(-1, kernel * kernel * images.shape[1])


def overlapped(taps: Tensor, images: Tensor) -> Tensor:
    """Each pixel of (N, C, H, W) laid out through taps (O, k, k, C), and added up: (N, O, H + k - 1, W + k - 1)."""
    o, kernel, _, c = taps.shape
    n, _, height, width = images.shape
    total = images.new_zeros(n, o, height + kernel - 1, width + kernel - 1)
    for image, sums in zip(images.split(1), total, strict=True):
        shares = scratch("patches", (o * kernel * kernel, height * width), images.dtype)
        multiply(taps.reshape(-1, c), rows(image).T, shares)
        shares = shares.view(o, kernel, kernel, height, width)
        for y in range(kernel):
            for x in range(kernel):
                sums[:, y : y + height, x : x + width] += shares[:, y, x]
    return total
