"""Where the tiles of Winograd's convolutions are, and their small matrices, from the points that evaluate polynomials."""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial.polynomial import polyfromroots
from torch import Tensor

TILES = {3: (4, 6), 4: (4, 5)}
"""Sides of the output tiles, by the taps of the filter's side."""

POINTS = np.array([0, 1, -1, 2, -2, 1 / 2, -1 / 2])
"""Where the polynomials are evaluated, besides at infinity; the first m + r - 2 of them are used. All sums and products
are exact in float64."""


class Matrix(NamedTuple):
    name: str
    """Unique among all matrices."""
    values: Tensor


class Grid(NamedTuple):
    """Where the tiles of an image are."""

    step: int
    """Pixels from one tile to the next; a tile is at most twice as wide."""
    edge: int
    """Pixels of the first tile that are outside the image: 0 or 1."""
    reflect: bool
    """Whether the edge is a reflection, or zeros; what is farther outside is zeros."""
    down: int
    right: int
    """How many tiles there are."""


class Transforms(NamedTuple):
    """For one side of a tile: m pixels of the output, of which a filter of r taps sees s = m + r - 1 of the input."""

    input: Matrix
    """Bᵀ, (s, s)."""
    filter: Matrix
    """G, (s, r)."""
    output: Matrix
    """Aᵀ, (m, s)."""
    input_back: Matrix
    """The transposes, for the gradients."""
    filter_back: Matrix
    output_back: Matrix


@cache
def transforms(taps: int, tile: int, dtype: torch.dtype = torch.float64) -> Transforms:
    """Toom and Cook's transforms for output tiles of that side, transposed.

    They multiply polynomials by way of their values. Row k of G evaluates a filter at point k, row k of Bᵀ is the
    polynomial that vanishes at all other points, and the factor by which it is too large at point k is in G.
    """
    points = POINTS[: tile + taps - 2]
    others = [points[points != p] for p in points]
    too_large = [[np.prod(p - roots)] for p, roots in zip(points, others, strict=True)]
    made = {
        "input": np.array([*([*polyfromroots(roots), 0] for roots in others), polyfromroots(points)]),
        # At infinity a polynomial's value is its leading coefficient.
        "filter": np.vstack([np.vander(points, taps, increasing=True) / too_large, np.eye(taps)[-1]]),
        "output": np.vstack([np.vander(points, tile, increasing=True), np.eye(tile)[-1]]).T,
    }
    made |= {f"{name}_back": rows.T for name, rows in made.items()}
    return Transforms(
        *(
            Matrix(f"{name}_{taps}_{tile}", torch.tensor((rows + 0.0).tolist(), dtype=dtype, device="cpu"))
            for name, rows in made.items()  # + 0.0 leaves no -0.0
        )
    )
