"""What the convolutions' backward passes share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Grads = tuple[Tensor | None, Tensor | None]
"""Of images and filter, as far as they are needed."""


def by_torch(
    ctx: Any, gradient: Tensor, images: Tensor, weight: Tensor, convolve: Callable[[Tensor, Tensor], Tensor]
) -> Grads:
    """The gradients of images and filter by torch's own operations, which can be differentiated again.

    Args:
        ctx: says which of the two are needed.
        gradient: of the output of `convolve(images, weight)`.
    """
    of_images, of_weight, *_ = ctx.needs_input_grad
    needed = [x for x, wanted in ((images, of_images), (weight, of_weight)) if wanted]
    grads = iter(torch.autograd.grad(convolve(images, weight), needed, gradient, create_graph=True))
    return next(grads) if of_images else None, next(grads) if of_weight else None


def pixels(images: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H, W, C): the same memory, in one piece if it is channels-last."""
    return images.permute(0, 2, 3, 1)
