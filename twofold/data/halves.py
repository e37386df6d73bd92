"""Whether images are pairs side by side, or single photographs that must not be cut in half."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.formats import images

SAMPLED = 12
"""How many images are looked at."""
NEEDED = 1 / 3
"""The share of those that show what they are which must be pairs."""
SHARPER = 1.5
"""A break in the middle is so many times sharper than nearly all edges elsewhere."""
SIMILAR = 0.6
"""Neighbouring columns of a photograph differ by less than this share of what distant ones do."""
CONTINUED = 0.7
"""Columns that differ by less than this share of their own contrast show one structure."""
ALIGNED, DISTINCT = 0.12, 0.7
"""The edges of both halves of a pair correlate at least so much, and less than this share of it anywhere else."""
FAINT = 0.02
"""Edges are no more than rounding if they vary less than this share of the image's values."""
LEAST, ROWS = 16, 512
"""Images of fewer pixels a side show nothing. Of higher ones, only so many rows are compared."""
GRID = 96
"""Most cells a side of the grid of edges."""


class Votes(NamedTuple):
    """The names of the sampled images by what they look like; the others show nothing."""

    pairs: list[str]
    photographs: list[str]
    sampled: int
    """How many images were looked at."""
    twice_as_wide: bool
    """Whether every image is exactly twice as wide as high."""

    @property
    def are_pairs(self) -> bool:
        """Whether enough of them are clearly pairs."""
        return bool(self.pairs) and len(self.pairs) >= NEEDED * (len(self.pairs) + len(self.photographs))

    @property
    def are_surely_pairs(self) -> bool:
        """Whether nearly all are clearly pairs."""
        return len(self.pairs) > 4 * len(self.photographs)

    @property
    def are_photographs(self) -> bool:
        """Whether most look like single images, and hardly any like a pair."""
        return 2 * len(self.photographs) > self.sampled and not self.are_pairs


def vote(folder: Path, names: Sequence[str]) -> Votes:
    """Look at some of the images. Those that cannot be read are left out."""
    pairs, photographs, shapes = [], [], []
    step = max(1, len(names) // SAMPLED)
    for name in names[::step][:SAMPLED]:
        try:
            pixels = images.read_stored(folder / name).pixels
        except images.ImageError:
            continue
        shapes.append(pixels.shape[1] / pixels.shape[0])
        found = is_pair(pixels)
        if found is not None:
            (pairs if found else photographs).append(name)
    return Votes(pairs, photographs, len(shapes), set(shapes) == {2})


def is_pair(pixels: NDArray[Any]) -> bool | None:
    """Whether an image (H, W, C) is a pair side by side; None if nothing in it shows it.

    A pair has a break in the middle column, or edges at the same places of both halves. A single image continues
    across the middle. Without either, an image that is not wider than high is taken for a single one.
    """
    height, width = pixels.shape[:2]
    if width % 2 or min(height, width) < LEAST:
        return False if width % 2 else None
    rows = pixels[:: max(1, height // ROWS)].astype(np.float64)
    values = np.nan_to_num(rows, posinf=0, neginf=0)
    steps = abs(np.diff(values, axis=1)).mean((0, 2))
    if has_break(steps):
        return True
    if continues(values, steps):
        return False
    if are_aligned(values[:, : width // 2], values[:, width // 2 :]):
        return True
    far = float(abs(values[:, width // 4 :] - values[:, : -(width // 4)]).mean())
    return False if steps.mean() < SIMILAR * far or width <= height else None


def has_break(steps: NDArray[np.float64]) -> bool:
    """Whether the columns at the middle differ more than neighbouring columns do anywhere else.

    Three steps from column to column are taken together: a seam is blurred where the pair was scaled.

    Args:
        steps: (W - 1,), the mean difference of each column and the next.
    """
    steps = np.maximum(np.maximum(steps[:-2], steps[1:-1]), steps[2:])
    middle, margin = len(steps) // 2, max(3, len(steps) // 32)
    others = np.concatenate([steps[: middle - margin], steps[middle + margin + 1 :]])
    return bool(steps[middle] > SHARPER * np.quantile(others, 0.98) and steps[middle] > 0)


def continues(values: NDArray[np.float64], steps: NDArray[np.float64]) -> bool:
    """Whether a structure crosses the middle: both columns there have much contrast, and hardly differ."""
    middle = len(steps) // 2
    contrast = values.std(0).mean(1)
    there = contrast[middle : middle + 2].mean()
    return bool(
        steps[middle] < 1.1 * np.quantile(steps, 0.95)
        and steps[middle] < CONTINUED * there
        and there > 0.4 * np.median(contrast)
    )


def are_aligned(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    """Whether the edges of both halves correlate best where one lies exactly over the other."""
    one, other = edges(left), edges(right)
    if one.std() <= FAINT * left.std() or other.std() <= FAINT * right.std():
        return False
    found = np.fft.irfft2(np.fft.rfft2(one) * np.fft.rfft2(other).conj(), one.shape)
    near = max(found[y, x] for y in (-1, 0, 1) for x in (-1, 0, 1))
    (high, wide), (y, x) = one.shape, np.indices(one.shape)
    far = (np.minimum(y, high - y) > max(2, high // 12)) | (np.minimum(x, wide - x) > max(2, wide // 12))
    repeats = far.any() and found[far].max() > DISTINCT * near  # as a regular pattern does
    return bool(near == found.max() > ALIGNED * one.size * one.std() * other.std() and not repeats)


def edges(half: NDArray[np.float64]) -> NDArray[np.float64]:
    """The strength of the edges on a grid of at most GRID cells a side, without what whole rows and columns share."""
    step = max(1, min(-(-max(half.shape[:2]) // GRID), min(half.shape[:2]) // 4))
    height, width = (side // step * step for side in half.shape[:2])
    grey = half[:height, :width].mean(2)
    cells = grey.reshape(grey.shape[0] // step, step, grey.shape[1] // step, step).mean((1, 3))
    found = abs(np.diff(cells, axis=0))[:, 1:] + abs(np.diff(cells, axis=1))[1:]
    return found - found.mean(0, keepdims=True) - found.mean(1, keepdims=True) + found.mean()
