"""Differentiable augmentation of all that a critic sees (Zhao et al. 2020, arXiv 2006.10738, §3.2).

A critic learns few images by heart; shown only varied ones, and translations varied likewise, it cannot, and the
variation does not leak into the translations since the gradient passes through it. Draws come from torch's CPU
generator, which the trainer seeds for each step.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

AugmentName = Literal["colour", "translation", "cutout"]


def augmented(images: Tensor, operations: Sequence[AugmentName]) -> Tensor:
    """`images` (N, C, H, W), each image varied by itself; differentiable."""
    for name in operations:
        images = OPERATIONS[name](images)
    return images


def colour(images: Tensor) -> Tensor:
    """Brightness moved by up to ±0.5 of [-1, 1], saturation scaled by up to 2, contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1).to(images).unbind(0)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * 2 * saturation
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + contrast)


def translation(images: Tensor) -> Tensor:
    """Moved by up to an eighth of the side in each direction; 0 comes in from outside."""
    _, _, height, width = images.shape
    down, right = height // 8, width // 8
    padded = F.pad(images, (right, right, down, down))
    places = torch.stack([torch.randint(2 * room + 1, (len(images),)) for room in (down, right)], 1).tolist()
    return torch.cat(
        [x[:, :, y : y + height, z : z + width] for x, (y, z) in zip(padded.split(1), places, strict=True)]
    )


def cutout(images: Tensor) -> Tensor:
    """A square of half the side, somewhere and maybe partly outside, is 0."""
    _, _, height, width = images.shape
    rows, columns = torch.arange(height), torch.arange(width)
    top, left = (torch.randint(side + 1, (len(images), 1)) - side // 4 for side in (height, width))
    inside_y = (rows >= top) & (rows < top + height // 2)  # (N, H)
    inside_x = (columns >= left) & (columns < left + width // 2)  # (N, W)
    kept = ~(inside_y[:, None, :, None] & inside_x[:, None, None, :])  # (N, 1, H, W)
    return images * kept.to(images)


OPERATIONS: dict[AugmentName, Callable[[Tensor], Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}
