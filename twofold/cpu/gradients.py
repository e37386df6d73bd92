"""A convolution by an algorithm of this room, as a function that torch differentiates."""

from typing import Any, Protocol

import torch
from torch import Tensor

Grads = tuple[Tensor | None, Tensor | None]
"""Of images and filter, as far as they are needed."""


class Algorithm(Protocol):
    """A way to convolve images with a filter that has their dtype."""

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor: ...

    def gradients(self, gradient: Tensor, images: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> Grads:
        """Those of images and filter, from that of the result."""
        ...

    def by_torch(self, images: Tensor, weight: Tensor) -> Tensor:
        """The same result by torch's own operations, whose gradients can be differentiated again."""
        ...


class Convolution(torch.autograd.Function):
    """The convolution of images with a filter that is rounded to their dtype; nothing else is kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, algorithm: Algorithm) -> Tensor:
        rounded = weight.to(images.dtype)
        ctx.save_for_backward(images, weight, rounded)
        ctx.algorithm = algorithm
        return algorithm.convolved(images, rounded)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight, rounded = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        if not torch.is_grad_enabled():
            return *ctx.algorithm.gradients(gradient, images, rounded, wanted), None
        made = ctx.algorithm.by_torch(images, weight.to(images.dtype))
        needed = [x for x, is_wanted in zip((images, weight), wanted, strict=True) if is_wanted]
        grads = iter(torch.autograd.grad(made, needed, gradient, create_graph=True))
        return *(next(grads) if is_wanted else None for is_wanted in wanted), None


def pixels(images: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H, W, C): the same memory, in one piece if it is channels-last."""
    return images.permute(0, 2, 3, 1)
