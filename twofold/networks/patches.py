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

Grads = tuple[Tensor | None, Tensor | None]


class Strided(torch.autograd.Function):
    """The library's convolution of stride 2 of images (N, C, H, W) with a filter (O, C, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding = padding
        return F.conv2d(images, weight, None, 2, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
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
        ctx.save_for_backward(images, weight)
        ctx.padding = padding
        return F.conv_transpose2d(images, weight, None, 2, padding, output_padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
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
        ctx.save_for_backward(images, weight)
        return F.conv2d(images, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Grads:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
        of_images, of_weight = ctx.needs_input_grad
        return (
            overlapped(weight.permute(1, 2, 3, 0), gradient) if of_images else None,
            filter_gradient(gradient, images, weight, 1, 0) if of_weight else None,
        )


class ToImage(torch.autograd.Function):
    """The same to few channels, O: what each pixel adds to the patch around it, then the sum of all that overlap."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        _, _, height, width = images.shape
        reach = weight.shape[2] - 1
        whole = overlapped(weight.flip(2, 3).permute(0, 2, 3, 1), images)
        return whole[:, :, reach:height, reach:width]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Grads:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
        n, c, height, width = images.shape
        of_images, of_weight = ctx.needs_input_grad
        kernel = weight.shape[2]
        around = patches(F.pad(gradient, (kernel - 1,) * 4), kernel, 1)  # (N H W, k k O)
        turned = weight.flip(2, 3).permute(2, 3, 0, 1)  # (k, k, O, C)
        grad_images = grad_weight = None
        if of_images:
            made = around @ turned.reshape(-1, c)
            grad_images = made.view(n, height, width, c).permute(0, 3, 1, 2)
        if of_weight:
            taps = (around.T @ rows(images)).view(turned.shape)
            grad_weight = torch.empty_like(weight).copy_(taps.permute(2, 3, 0, 1).flip(2, 3))
        return grad_images, grad_weight


def filter_gradient(small: Tensor, large: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Of a convolution from `large` to `small`, or a transposed one from `small` to `large`; strides of `weight`."""
    kernel = weight.shape[2]
    taps = rows(small).T @ patches(F.pad(large, (padding,) * 4), kernel, stride)
    return torch.empty_like(weight).copy_(taps.view(len(taps), kernel, kernel, -1).permute(0, 3, 1, 2))


def rows(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N H W, C)."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def patches(images: Tensor, kernel: int, stride: int) -> Tensor:
    """The squares that a filter meets: (N, C, H, W) to (N h w, kernel · kernel · C)."""
    squares = images.permute(0, 2, 3, 1).unfold(1, kernel, stride).unfold(2, kernel, stride)
    return squares.permute(0, 1, 2, 4, 5, 3).reshape(-1, kernel * kernel * images.shape[1])


def overlapped(taps: Tensor, images: Tensor) -> Tensor:
    """Each pixel of (N, C, H, W) laid out through taps (O, k, k, C), and added up: (N, O, H + k - 1, W + k - 1)."""
    o, kernel, _, c = taps.shape
    n, _, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).reshape(n, height * width, c)
    shares = (taps.reshape(-1, c) @ pixels.transpose(1, 2)).view(n, o, kernel, kernel, height, width)
    total = images.new_zeros(n, o, height + kernel - 1, width + kernel - 1)
    for y in range(kernel):
        for x in range(kernel):
            total[:, :, y : y + height, x : x + width] += shares[:, :, y, x]
    return total
