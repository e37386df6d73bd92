"""Convolutions, or their gradients, as one matrix product over patches, where that beats the CPU library's.

The library's weight gradients are slow for strided convolutions, and with an image's few channels on one side it leaves
most of each vector empty. Gradients of gradients are not offered.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

from twofold.networks.remade import keep, kept
from twofold.networks.scratch import scratch

Grads = tuple[Tensor | None, Tensor | None]


class Strided(torch.autograd.Function):
    """The library's convolution of stride 2 of images (N, C, H, W) with a filter (O, C, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: int) -> Tensor:
        keep(ctx, images, weight)
        ctx.padding = padding
        return F.conv2d(images, weight, None, 2, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = kept(ctx)
        of_images, of_weight, _ = ctx.needs_input_grad
        return (
            conv2d_input(images.shape, weight, gradient, 2, ctx.padding) if of_images else None,
            filter_gradient(gradient, images, weight, 2, ctx.padding) if of_weight else None,
            None,
        )


class Transposed(torch.autograd.Function):
    """The library's transposed convolution of stride 2, filter (C, O, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: int, output_padding: int) -> Tensor:
        keep(ctx, images, weight)
        ctx.padding = padding
        return F.conv_transpose2d(images, weight, None, 2, padding, output_padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = kept(ctx)
        of_images, of_weight, *_ = ctx.needs_input_grad
        return (
            F.conv2d(gradient, weight, None, 2, ctx.padding) if of_images else None,
            filter_gradient(images, gradient, weight, 2, ctx.padding) if of_weight else None,
            None,
            None,
        )


class FromImage(torch.autograd.Function):
    """The library's convolution of padded images of few channels, (N, C, H, W), stride 1, filter (O, C, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        keep(ctx, images, weight)
        return F.conv2d(images, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Grads:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = kept(ctx)
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
        padded = edged(images, weight, reflect)
        _, _, height, width = padded.shape
        reach = weight.shape[2] - 1
        whole = overlapped(weight.flip(2, 3).permute(0, 2, 3, 1), padded)
        return whole[:, :, reach:height, reach:width].clone()  # a view may not be changed in place

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = kept(ctx)
        of_images, of_weight, _ = ctx.needs_input_grad
        n, c, kernel, reach = len(images), images.shape[1], weight.shape[2], weight.shape[2] // 2
        padded = edged(images, weight, ctx.reflect)
        _, _, height, width = padded.shape
        turned = weight.flip(2, 3).permute(2, 3, 0, 1)  # (k, k, O, C)
        whole = F.pad(gradient, (kernel - 1,) * 4)
        grad_padded = images.new_empty(n, height, width, c) if of_images else None
        taps = images.new_zeros(turned.numel() // c, c) if of_weight else None
        for place in range(n):
            around = patches(whole[place : place + 1], kernel, 1)  # (H W, k k O)
            if grad_padded is not None:
                torch.mm(around, turned.reshape(-1, c), out=grad_padded[place].view(height * width, c))
            if taps is not None:
                taps.addmm_(around.T, rows(padded[place : place + 1]))
        grad_images = grad_weight = None
        if grad_padded is not None:
            grad_images = grad_padded.permute(0, 3, 1, 2)
            if ctx.reflect:
                grad_images = torch.ops.aten.reflection_pad2d_backward(grad_images, images, (reach,) * 4)
            else:
                grad_images = grad_images[:, :, reach:-reach, reach:-reach]
        if taps is not None:
            grad_weight = taps.view(turned.shape).permute(2, 3, 0, 1).flip(2, 3)
            grad_weight = torch.empty_like(weight).copy_(grad_weight)
        return grad_images, grad_weight, None


def edged(images: Tensor, weight: Tensor, reflect: bool) -> Tensor:
    return F.pad(images, (weight.shape[2] // 2,) * 4, "reflect" if reflect else "constant")


def filter_gradient(small: Tensor, large: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Of a convolution from `large` to `small`, or a transposed one from `small` to `large`; strides of `weight`."""
    o, kernel = small.shape[1], weight.shape[2]
    taps = small.new_zeros(o, kernel * kernel * large.shape[1])
    padded = F.pad(large, (padding,) * 4)
    for place in range(len(small)):
        taps.addmm_(rows(small[place : place + 1]).T, patches(padded[place : place + 1], kernel, stride))
    return torch.empty_like(weight).copy_(taps.view(o, kernel, kernel, -1).permute(0, 3, 1, 2))


def rows(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N H W, C)."""
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
        torch.mm(taps.reshape(-1, c), rows(image).T, out=shares)
        shares = shares.view(o, kernel, kernel, height, width)
        for y in range(kernel):
            for x in range(kernel):
                sums[:, y : y + height, x : x + width] += shares[:, y, x]
    return total
