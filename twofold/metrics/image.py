"""Measures against a known answer, and the floors that a translation should beat."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]
Float = NDArray[np.float64]


class Score(NamedTuple):
    """Means over images."""

    psnr: float  # dB
    ssim: float  # 1 is equal


def score(results: list[Uint8], answers: list[Uint8]) -> Score:
    """Mean PSNR and SSIM of uint8 images (H, W, C), pairwise."""
    rows = [(psnr(x, y), ssim(x, y)) for x, y in zip(results, answers, strict=True)]
    return Score(*(float(np.mean(column)) for column in zip(*rows, strict=True)))


def psnr(result: Uint8, answer: Uint8) -> float:
    """Peak signal to noise ratio in dB, over all channels; infinite for equal images."""
    error = np.square(result.astype(np.float64) - answer).mean()
    return float(10 * np.log10(255**2 / error)) if error else math.inf


def ssim(result: Uint8, answer: Uint8) -> float:
    """Mean SSIM of Wang et al. 2004, §III-B, of images of at least 6 pixels a side."""
    return float(ssim_map(result, answer).mean())


def ssim_map(result: Uint8, answer: Uint8) -> Float:
    """The SSIM (C, H, W) of the window around each pixel, an 11×11 Gaussian of σ 1.5; edges are mirrored."""
    luminance, structure = terms(*map(planes, (result, answer)))
    return luminance * structure


def planes(image: Uint8) -> Float:
    """(H, W, C) as float64 (C, H, W), still 0 to 255."""
    return np.moveaxis(image.astype(np.float64), 2, 0)


def terms(x: Float, y: Float) -> tuple[Float, Float]:
    """SSIM's two factors around each pixel, l and c·s of equations 6, 9 and 10, each (C, H, W)."""
    down, across = (smoothing(side) for side in x.shape[1:])
    mean_x, mean_y, square_x, square_y, both = down @ np.stack([x, y, x * x, y * y, x * y]) @ across.T
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * (both - mean_x * mean_y) + c2) / (square_x - mean_x**2 + square_y - mean_y**2 + c2)
    return luminance, structure


@cache
def smoothing(side: int) -> Float:
    """The matrix (side, side) that weighs a line's pixels by the Gaussian around each, the line mirrored at its ends.

    As a matrix product an SSIM takes a twentieth of the time that a convolution in float64 takes.
    """
    weights = np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / 1.5) ** 2)
    places = np.pad(np.arange(side), REACH, "reflect")
    matrix = np.zeros((side, side))
    for offset, weight in enumerate(weights / weights.sum()):
        np.add.at(matrix, (np.arange(side), places[offset : offset + side]), weight)
    return matrix


REACH = 5
"""Pixels of a window on each side of its middle."""

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM's scales, the finest first (Wang et al. 2003, §3.2)."""

MS_SSIM_SIDE = (2 * REACH + 1) << len(SCALES) - 1
"""Fewer pixels a side have no whole window at the coarsest scale, and so no MS-SSIM."""


def ms_ssim(result: Uint8, answer: Uint8) -> float:
    """SSIM over five scales (Wang et al. 2003), of images of at least `MS_SSIM_SIDE` pixels a side.

    As torchmetrics has it: structure is counted where windows are whole, the coarsest scale up to its edges, and a
    negative factor as 0.
    """
    x, y = map(planes, (result, answer))
    factors = []
    for _ in SCALES[:-1]:
        factors.append(terms(x, y)[1][:, REACH:-REACH, REACH:-REACH].mean())
        x, y = map(halved, (x, y))
    luminance, structure = terms(x, y)
    factors.append((luminance * structure).mean())
    return float(np.prod(np.maximum(factors, 0.0) ** np.array(SCALES)))


def halved(image: Float) -> Float:
    """Means of 2×2 pixels of (C, H, W); an odd last row or column is left out."""
    channels, high, wide = image.shape[0], image.shape[1] // 2, image.shape[2] // 2
    return image[:, : 2 * high, : 2 * wide].reshape(channels, high, 2, wide, 2).mean((2, 4))


def match_histogram(images: list[Uint8], source: list[Uint8], target: list[Uint8]) -> list[Uint8]:
    """`images` with each channel's values mapped so that the pooled histogram of `source` becomes `target`'s.

    The strongest change of colour that looks at no neighbourhood and no other channel.
    """
    tables = [
        _table(_histogram(source, channel), _histogram(target, channel))
        for channel in range(source[0].shape[2])
    ]
    return [np.stack([table[image[..., c]] for c, table in enumerate(tables)], -1) for image in images]


def _histogram(images: list[Uint8], channel: int) -> NDArray[np.int64]:
    return sum((np.bincount(i[..., channel].ravel(), minlength=256) for i in images), np.zeros(256, np.int64))


def _table(source: NDArray[np.int64], target: NDArray[np.int64]) -> Uint8:
    """For each of 256 levels, the target's level at the same quantile; all of a level's pixels take its middle one."""
    middles = (2 * np.cumsum(source) - source) * target.sum()  # whole numbers, so that ties fall exactly
    ends = 2 * np.cumsum(target) * source.sum()
    return np.searchsorted(ends, np.maximum(middles, 1)).clip(0, 255).astype(np.uint8)
