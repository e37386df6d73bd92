"""Measures against a known answer, and the floors that a translation should beat."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

Uint8 = NDArray[np.uint8]


class Score(NamedTuple):
    """Means over images."""

    psnr: float  # dB
    ssim: float  # 1 is equal


def score(results: list[Uint8], answers: list[Uint8]) -> Score:
    """Mean PSNR and SSIM of uint8 images (H, W, C), pairwise."""
    rows = [(psnr(x, y), ssim(x, y)) for x, y in zip(results, answers, strict=True)]
    return Score(*(float(np.mean(column)) for column in zip(*rows, strict=True)))


def psnr(result: Uint8, answer: Uint8) -> float:
    """Peak signal to noise ratio in dB, over all channels."""
    return float(peak_signal_noise_ratio(*_levels(result, answer), data_range=255.0))


def ssim(result: Uint8, answer: Uint8) -> float:
    """SSIM of Wang et al. 2004 (11×11 Gaussian of σ 1.5) of images of at least 6 pixels a side.

    Each channel by itself, the images mirrored at their edges so that every pixel is the middle of a window.
    """
    found = structural_similarity_index_measure(*_levels(result, answer), data_range=255.0)
    assert isinstance(found, torch.Tensor)
    return float(found)


MS_SSIM_SIDE = 161
"""Five scales of an 11 pixel window: fewer pixels a side have no MS-SSIM."""


def ms_ssim(result: Uint8, answer: Uint8) -> float:
    """SSIM over five scales (Wang et al. 2003), of images of at least `MS_SSIM_SIDE` pixels a side."""
    x, y = _levels(result, answer)
    return float(multiscale_structural_similarity_index_measure(x, y, data_range=255.0, normalize="relu"))


def _levels(result: Uint8, answer: Uint8) -> tuple[torch.Tensor, torch.Tensor]:
    """Both (H, W, C) as float64 (1, C, H, W), still 0 to 255."""
    x, y = (torch.from_numpy(image).permute(2, 0, 1)[None].double() for image in (result, answer))
    return x, y


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
