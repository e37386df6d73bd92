"""Measures against a known answer, and the floors that a translation should beat."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

Uint8 = NDArray[np.uint8]


class Score(NamedTuple):
    """Means over images."""

    psnr: float  # dB
    ssim: float  # 1 is equal


def score(results: list[Uint8], answers: list[Uint8]) -> Score:
    """Mean PSNR and SSIM of uint8 images (H, W, C), pairwise; at least 6 pixels a side.

    SSIM is that of Wang et al. 2004 (11×11 Gaussian of σ 1.5), each channel by itself, the images mirrored at
    their edges so that every pixel is the middle of a window.
    """
    rows = [_score_one(x, y) for x, y in zip(results, answers, strict=True)]
    return Score(*(float(np.mean(column)) for column in zip(*rows, strict=True)))


def _score_one(result: Uint8, answer: Uint8) -> tuple[float, float]:
    x, y = (torch.from_numpy(image).permute(2, 0, 1)[None].double() for image in (result, answer))
    psnr = peak_signal_noise_ratio(x, y, data_range=255.0)
    ssim = structural_similarity_index_measure(x, y, data_range=255.0)
    assert isinstance(ssim, torch.Tensor)
    return float(psnr), float(ssim)


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
