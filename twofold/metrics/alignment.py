"""How far edges moved between a source and its translation, in pixels. NumPy only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.metrics.structure import Float, edges, luminance

SMALLEST, BLOCK = 32, 64
"""The smallest side of an image that can be measured, and the side of the blocks where the image is large enough."""

SOFT = 0.15
"""Standard deviation in cycles a pixel of the frequencies that count: higher ones differ between domains."""

CLEAR = 6.0
"""A block counts if its correlation's peak is this many standard deviations above the rest. Unrelated noise: under 5."""

MOST, SHARE = 4, 0.25
"""Blocks along a side at most, and the share of all blocks that must count for a figure."""

STEPS = 20
"""Parts of a pixel that a shift is found in."""


def edges_moved(source: NDArray[Any], output: NDArray[Any]) -> float:
    """The median distance in pixels that edges moved, over blocks of an image (H, W, C) and its translation.

    Each block's shift is the peak of the phase correlation of the two edge maps (Kuglin & Hines 1975), refined to
    1/20 pixel by the Fourier sum around it (Guizar-Sicairos et al. 2008). Edge maps do not depend on which side of an
    edge is brighter. At most a quarter of a block (16 pixels in images of 66 and more) can be found. NaN where too few
    blocks have edges in common, or the image has a side below `SMALLEST` pixels.
    """
    x, y = edges(luminance(source)), edges(luminance(output))
    if min(source.shape[:2]) < SMALLEST:
        return float("nan")
    side = min(BLOCK, *(length // 2 * 2 for length in x.shape))
    places = [(top, left) for top in starts(x.shape[0], side) for left in starts(x.shape[1], side)]
    shifts = [shift_of_block(x, y, *place, side) for place in places]
    found = [np.hypot(*shift) for shift in shifts if shift is not None]
    return float(np.median(found)) if len(found) >= SHARE * len(places) else float("nan")


def starts(length: int, side: int) -> list[int]:
    """Where at most `MOST` blocks begin, from edge to edge and at most half of a block over each other."""
    count = min(MOST, 1 + -(-(length - side) // (side // 2)))
    return np.linspace(0, length - side, count).round().astype(int).tolist()


def shift_of_block(x: Float, y: Float, top: int, left: int, side: int) -> tuple[float, float] | None:
    """(rows, columns) by which a block of `y` is displaced, or None if it has no clear shift.

    The block of `y` is taken a second time where the first shift says, because a window that stays pulls towards 0.
    """
    window = np.hanning(side + 1)[:-1]
    window = window[:, None] * window
    block = x[top : top + side, left : left + side]
    moved_by, total = (0, 0), (0.0, 0.0)
    for _ in range(2):
        high = min(max(top + moved_by[0], 0), y.shape[0] - side)
        wide = min(max(left + moved_by[1], 0), y.shape[1] - side)
        moved_by = high - top, wide - left
        shift = phase_shift(block, y[high : high + side, wide : wide + side], window)
        if shift is None:
            return None
        total = moved_by[0] + shift[0], moved_by[1] + shift[1]
        if max(map(abs, shift)) <= 0.5:
            break
        moved_by = round(total[0]), round(total[1])
    return total if max(map(abs, total)) <= side / 4 else None


def phase_shift(x: Float, y: Float, window: Float) -> tuple[float, float] | None:
    """(rows, columns) by which `y` is displaced from `x`, two blocks (S, S); None without a clear peak."""
    spectra = [np.fft.fft2((block - block.mean()) * window) for block in (x, y)]
    cross = np.conj(spectra[0]) * spectra[1]
    strength = np.abs(cross)
    if strength.max() < 1e-9:
        return None
    at = np.fft.fftfreq(len(x))
    soft = np.exp(-(at[:, None] ** 2 + at**2) / (2 * SOFT**2))
    phases = cross / (strength + 1e-3 * strength.max()) * soft
    surface = np.fft.ifft2(phases).real
    row, column = np.unravel_index(surface.argmax(), surface.shape)
    if surface.max() - surface.mean() < CLEAR * surface.std():
        return None
    near = np.arange(-STEPS, STEPS + 1) / STEPS
    rows, columns = at[row] * len(x) + near, at[column] * len(x) + near
    fine = np.exp(2j * np.pi * np.outer(rows, at)) @ phases @ np.exp(2j * np.pi * np.outer(at, columns))
    i, j = np.unravel_index(fine.real.argmax(), fine.shape)
    return float(rows[i]), float(columns[j])
