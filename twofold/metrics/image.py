"""Measures of an image against its known answer, (H, W, C) of any type of values; and histogram matching in 8 bits."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twofold.formats.contract import Contract, Pixels
from twofold.formats.values import Uint8

SSIM_SIDE, MS_SSIM_SIDE = 6, 176
"""The smallest sides in pixels: SSIM mirrors 5 pixels at the edges, MS-SSIM needs a whole window after four halvings."""


Limits = tuple[float, float]
"""The range of stored values that a measure is relative to: 0 and 255 for 8 bits."""


def limits_of(contract: Contract) -> Limits:
    """The lowest and the highest value of a contract's range."""
    return min(contract.low), max(contract.high)


def psnr(result: Pixels, answer: Pixels, limits: Limits = (0.0, 255.0)) -> float:
    """Peak signal-to-noise ratio in dB, over all channels; infinite for equal images. The peak is the range's width."""
    error = np.square(result.astype(np.float64) - answer).mean()
    return float(10 * np.log10((limits[1] - limits[0]) ** 2 / error)) if error else math.inf


def mae(result: Pixels, answer: Pixels) -> float:
    """Mean absolute error in the units of the stored values, over all channels."""
    return float(np.abs(result.astype(np.float64) - answer).mean())


def ssim(result: Pixels, answer: Pixels, limits: Limits = (0.0, 255.0)) -> float:
    """Mean SSIM of Wang et al. 2004, §III-B: 11×11 Gaussian windows of σ 1.5, mirrored at the edges; 1 is equal.

    Values are counted from the lower limit, because SSIM's term of luminance is for values from 0.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes a second to import

    x, y = batch(result, limits[0]), batch(answer, limits[0])
    value = structural_similarity_index_measure(x, y, data_range=float(limits[1] - limits[0]))
    assert isinstance(value, Tensor)  # the other return types are of other options
    return float(value)


def ms_ssim(result: Pixels, answer: Pixels, limits: Limits = (0.0, 255.0)) -> float:
    """SSIM over five scales (Wang et al. 2003, §3.2); a negative factor counts as 0. Values as for `ssim`."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as multiscale

    x, y = batch(result, limits[0]), batch(answer, limits[0])
    return float(multiscale(x, y, data_range=float(limits[1] - limits[0]), normalize="relu"))


def batch(image: Pixels, low: float) -> Tensor:
    """(H, W, C) as float32 (1, C, H, W), from 0 where the image has `low`."""
    wide = np.moveaxis(image, 2, 0).astype(np.float64) - low
    return torch.from_numpy(wide.astype(np.float32))[None]


def match_histogram(images: list[Uint8], source: list[Uint8], target: list[Uint8]) -> list[Uint8]:
    """`images` with each channel's values mapped so that the pooled histogram of `source` becomes that of `target`.

    The strongest change of colour that uses neither neighbouring pixels nor other channels.
    """
    tables = [
        level_table(histogram(source, channel), histogram(target, channel))
        for channel in range(source[0].shape[2])
    ]
    return [np.stack([table[image[..., c]] for c, table in enumerate(tables)], -1) for image in images]


def histogram(images: list[Uint8], channel: int) -> NDArray[np.int64]:
    return sum((np.bincount(i[..., channel].ravel(), minlength=256) for i in images), np.zeros(256, np.int64))


def level_table(source: NDArray[np.int64], target: NDArray[np.int64]) -> Uint8:
    """For each of 256 levels, the target's level at the same quantile; a level's pixels all take its middle quantile."""
    middles = (2 * np.cumsum(source) - source) * target.sum()  # whole numbers, so that ties are exact
    ends = 2 * np.cumsum(target) * source.sum()
    return np.searchsorted(ends, np.maximum(middles, 1)).clip(0, 255).astype(np.uint8)
