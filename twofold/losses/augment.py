"""Differentiable augmentation of every image that a discriminator sees (Zhao et al. 2020, arXiv 2006.10738, §3.2).

A discriminator memorises few images; with augmented ones it cannot. Translations are augmented alike and the gradient
passes through, so the augmentation does not leak into the translations. The draws come from the device's generator,
which the trainer seeds for each step, and stay on the device.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

AugmentName = Literal["colour", "translation", "cutout"]


def augmented(images: Tensor, operations: Sequence[AugmentName]) -> Tensor:
    """`images` (N, C, H, W), each image augmented with draws of its own; differentiable."""
    for name in operations:
        images = OPERATIONS[name](images)
    return images


def colour(images: Tensor) -> Tensor:
    """Brightness moved by up to ±0.5 of [-1, 1], saturation scaled by up to 2, contrast by 0.5 to 1.5."""
    draws = torch.rand(3, len(images), 1, 1, 1, device=images.device).to(images.dtype)
    brightness, saturation, contrast = draws.unbind(0)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * 2 * saturation
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + contrast)


def translation(images: Tensor) -> Tensor:
    """Shifted by up to an eighth of the side in each direction; zeros fill the border."""
    _, _, height, width = images.shape
    down, right = height // 8, width // 8
    padded = F.pad(images, (right, right, down, down))
    rows, columns = (
        draw(2 * room + 1, images) + torch.arange(side, device=images.device)  # (N, side)
        for room, side in ((down, height), (right, width))
    )
    moved = padded.take_along_dim(rows[:, None, :, None], 2)
    return moved.take_along_dim(columns[:, None, None, :], 3)


def cutout(images: Tensor) -> Tensor:
    """A square of half the side at a random place, which may reach over the border, is set to 0."""
    _, _, height, width = images.shape
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    top, left = (draw(side + 1, images) - side // 4 for side in (height, width))
    inside_y = (rows >= top) & (rows < top + height // 2)  # (N, H)
    inside_x = (columns >= left) & (columns < left + width // 2)  # (N, W)
    kept = ~(inside_y[:, None, :, None] & inside_x[:, None, None, :])  # (N, 1, H, W)
    return images * kept.to(images)


def draw(below: int, images: Tensor) -> Tensor:
    """A random integer in [0, below) for each image, (N, 1), on their device."""
    return torch.randint(below, (len(images), 1), device=images.device)


OPERATIONS: dict[AugmentName, Callable[[Tensor], Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}
