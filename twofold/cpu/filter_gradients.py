"""Strided and transposed convolutions whose filter gradients are one matrix product over patches of the image.

The CPU library's filter gradients are slow for strided convolutions. Where maps are small and channels many, it spends its
time on the layout of the filter; there the convolution itself is a product over patches as well.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

from twofold.cpu.gradients import Grads, pixels
from twofold.cpu.scratch import empty, scratch

FEW_PIXELS = 16 * 16
"""Pixels of the small side of a strided convolution up to which it is faster as a product."""

VERY_FEW = 4 * 4
"""Pixels of the small side of a transposed convolution up to which it is faster as a product."""


class StridedConv(NamedTuple):
    """The convolution of stride 2 of images (N, C, H, W) with a filter (O, C, k, k)."""

    padding: int

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        h, w = ((side + 2 * self.padding - weight.shape[2]) // 2 + 1 for side in images.shape[2:])
        if h * w > FEW_PIXELS:
            return self.by_torch(images, weight)
        return conv_by_product(images, weight, 2, self.padding, (h, w))

    def gradients(self, gradient: Tensor, images: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> Grads:
        grad_images = grad_weight = None
        if wanted[1]:
            _, grad_weight = by_patches(gradient, images, weight, self.padding, (False, True))
        if wanted[0] and gradient.shape[2:].numel() > FEW_PIXELS:
            grad_images = conv2d_input(images.shape, weight, gradient, 2, self.padding)
        elif wanted[0]:
            grad_images = transposed_by_product(gradient, weight, 2, self.padding, images.shape[2:])
        return grad_images, grad_weight

    def by_torch(self, images: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(images, weight, None, 2, self.padding)


class TransposedConv(NamedTuple):
    """The transposed convolution of stride 2 of images (N, C, h, w) with a filter (C, O, k, k)."""

    padding: int
    output_padding: int

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        if images.shape[2:].numel() > VERY_FEW:
            return self.by_torch(images, weight)
        size = transposed_size(images, weight, *self)
        return transposed_by_product(images, weight, 2, self.padding, size)

    def gradients(self, gradient: Tensor, images: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> Grads:
        return by_patches(images, gradient, weight, self.padding, wanted)

    def by_torch(self, images: Tensor, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(images, weight, None, 2, *self)


def transposed_size(images: Tensor, weight: Tensor, padding: int, output_padding: int) -> list[int]:
    """Height and width of the output of a transposed convolution of stride 2."""
    return [2 * (side - 1) + weight.shape[2] - 2 * padding + output_padding for side in images.shape[2:]]


def by_patches(
    small: Tensor, large: Tensor, weight: Tensor, padding: int, wanted: tuple[bool, bool]
) -> Grads:
    """Of a transposed convolution: the gradients of `small` and the filter, from `large`, that of the result.

    The filter's is also that of a convolution of `large`, if `small` is the gradient of the result.
    """
    grad_small = empty(small.shape, small.dtype) if wanted[0] else None
    taps = small.new_empty(len(weight), weight[0].numel()) if wanted[1] else None
    for place, one in enumerate(F.pad(large, (padding,) * 4).split(1)):
        squares = patches(one, weight.shape[2], 2)
        if grad_small is not None:
            torch.mm(squares, pixels(weight).flatten(1).T, out=rows(grad_small[place : place + 1]))
        if taps is not None:
            before = 1.0 if place else 0.0  # times what was there
            torch.addmm(taps, rows(small[place : place + 1]).T, squares, beta=before, out=taps)
    return grad_small, None if taps is None else as_filter(taps, weight)


def conv_by_product(images: Tensor, weight: Tensor, stride: int, padding: int, size: Sequence[int]) -> Tensor:
    """The convolution as a product over patches: images (N, C, H, W) and a filter (O, C, k, k) to (N, O, *size)."""
    squares = patches(F.pad(images, (padding,) * 4), weight.shape[2], stride)
    made = empty((len(images), len(weight), *size), images.dtype)
    torch.mm(squares, pixels(weight).flatten(1).T, out=rows(made))
    return made


def transposed_by_product(
    images: Tensor, weight: Tensor, stride: int, padding: int, size: Sequence[int]
) -> Tensor:
    """The transposed convolution as a product: what each pixel adds to its square, then the sum of all.

    Images (N, C, h, w) and a filter (C, O, k, k) to (N, O, *size).
    """
    n, _, h, w = images.shape
    _, o, kernel, _ = weight.shape
    shares = (rows(images) @ pixels(weight).flatten(1)).view(n, h, w, kernel, kernel, o)
    total = images.new_zeros(n, size[0] + 2 * padding, size[1] + 2 * padding, o)
    reach_y, reach_x = (stride * (side - 1) + 1 for side in (h, w))
    for y in range(kernel):
        for x in range(kernel):
            total[:, y : y + reach_y : stride, x : x + reach_x : stride] += shares[:, :, :, y, x]
    inner = total[:, padding : padding + size[0], padding : padding + size[1]]
    return inner.permute(0, 3, 1, 2).clone(memory_format=torch.channels_last)


def as_filter(taps: Tensor, weight: Tensor) -> Tensor:
    """Taps (O, k · k · C) as (O, C, k, k), with the strides of `weight`."""
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
