"""The small matrices of Winograd's convolutions, from the points at which their polynomials are evaluated."""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

TILES = {3: (4, 6), 4: (4, 5)}
"""Sides of the output tiles, by the taps of the filter's side."""

POINTS = tuple(map(Fraction, (0, 1, -1, 2, -2, 1 / 2, -1 / 2)))
"""Where the polynomials are evaluated, besides at infinity; the first m + r - 2 of them are used."""


class Matrix(NamedTuple):
    name: str
    """Unique among all matrices."""
    values: Tensor


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
    others = [with_roots([q for q in points if q != p]) for p in points]
    of_input = [*[[*row, Fraction(0)] for row in others], with_roots(points)]
    of_filter = [
        [p**power / evaluated(row, p) for power in range(taps)] for p, row in zip(points, others, strict=True)
    ]
    of_filter.append([Fraction(power == taps - 1) for power in range(taps)])  # at infinity: the leading one
    of_output = [[*(p**power for p in points), Fraction(power == tile - 1)] for power in range(tile)]
    made = {"input": of_input, "filter": of_filter, "output": of_output}
    made |= {f"{name}_back": list(zip(*rows, strict=True)) for name, rows in made.items()}
    return Transforms(
        **{
            name: Matrix(
                f"{name}_{taps}_{tile}",
                torch.tensor([[*map(float, row)] for row in rows], dtype=dtype, device="cpu"),
            )
            for name, rows in made.items()
        }
    )


def with_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, the constant's first, of the product of all x - root."""
    product = [Fraction(1)]
    for root in roots:
        product = [
            x - root * y for x, y in zip([Fraction(0), *product], [*product, Fraction(0)], strict=True)
        ]
    return product


def evaluated(coefficients: Sequence[Fraction], x: Fraction) -> Fraction:
    return sum((c * x**power for power, c in enumerate(coefficients)), Fraction(0))
