"""Distances between two sets of images in a network's features, and how sure a figure is.

Features are float64 (N, D), a row an image. Everything here is arithmetic: nothing reads images or runs networks.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.randomness import generator

Float = NDArray[np.float64]

DRAWS = 1000
"""Bootstrap samples behind an interval of a mean."""

FID_DRAWS = 40
"""And behind one of a FID, of which each takes a singular value decomposition."""

SURE = 1.96
"""Standard deviations of a normal distribution around its middle 95 %."""


class Figure(NamedTuple):
    """A measured value and its 95 % interval; a value that images cannot vary has none."""

    value: float
    low: float | None = None
    high: float | None = None


def mean_of(values: Sequence[float] | Float, *key: int | str) -> Figure:
    """The mean over images, with its bootstrap interval (percentiles; Efron & Tibshirani 1993, §13.3)."""
    rows = np.asarray(values, np.float64)
    return ratio_of(rows, np.ones_like(rows), *key)


def ratio_of(parts: Float, wholes: Float, *key: int | str) -> Figure:
    """The sum over images of `parts` by that of `wholes`, with its bootstrap interval."""
    return resampled(lambda counts: float(counts @ parts / (counts @ wholes)), len(parts), *key)


def resampled(figure: Callable[[Float], float], count: int, *key: int | str) -> Figure:
    """A figure of `count` images and its bootstrap interval.

    Args:
        figure: from how often each image counts, float64 (count,).
        key: names the random draws.
    """
    value = figure(np.ones(count))
    if count < 2 or not math.isfinite(value):
        return Figure(value)
    draws = generator("bootstrap", count, *key).multinomial(count, np.full(count, 1 / count), DRAWS)
    low, high = np.nanpercentile([figure(counts.astype(np.float64)) for counts in draws], [2.5, 97.5])
    return Figure(value, float(low), float(high))


def frechet_distance(x: Float, y: Float, count_x: Float | None = None, count_y: Float | None = None) -> float:
    """The FID of features (N, D) and (M, D): the squared Fréchet distance of the normal distributions that fit them.

    Heusel et al. 2017 (arXiv 1706.08500), equation 6. With centred rows X and Y, each divided by the root of one
    less than their number, the covariances are XᵀX and YᵀY, and the trace of the root of their product is the sum
    of the singular values of XYᵀ: exact where there are fewer images than features, where the matrix root fails.

    Args:
        count_x, count_y: how often each row counts; once if not given.
    """
    (mean_x, left), (mean_y, right) = moments(x, count_x), moments(y, count_y)
    shared = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    gap = np.square(mean_x - mean_y).sum()
    return float(gap + np.square(left).sum() + np.square(right).sum() - 2 * shared)


def moments(x: Float, counts: Float | None = None) -> tuple[Float, Float]:
    """The mean (D,) of rows (N, D), and at most D rows whose RᵀR is their covariance, divided by N - 1."""
    counts = np.ones(len(x)) if counts is None else counts
    total, seen = counts.sum(), counts > 0
    mean = counts @ x / total
    rows = (x[seen] - mean) * np.sqrt(counts[seen] / (total - 1))[:, None]
    return mean, np.linalg.qr(rows).R if len(rows) > rows.shape[1] else rows


def fid(x: Float, y: Float, *key: int | str) -> Figure:
    """The FID and an interval from bootstrap samples of both sets.

    A FID is biased upwards, the more the fewer images there are, and that of a bootstrap sample more still; so only
    their spread is taken, around the FID of all images.
    """
    value = frechet_distance(x, y)
    if min(len(x), len(y)) < 2:
        return Figure(value)
    rng = generator("bootstrap fid", len(x), len(y), *key)
    draws = [
        frechet_distance(
            x, y, *(rng.multinomial(n, np.full(n, 1 / n)).astype(float) for n in (len(x), len(y)))
        )
        for _ in range(FID_DRAWS)
    ]
    spread = SURE * float(np.std(draws, ddof=1))
    return Figure(value, max(0.0, value - spread), value + spread)


def kid(x: Float, y: Float) -> Figure:
    """The KID of features (N, D) and (M, D), and an interval from its standard error.

    The unbiased estimate of the squared maximum mean discrepancy under the kernel (x·y / D + 1)³ (Bińkowski et al.
    2018, arXiv 1801.01401, §4), over all images at once: what the usual mean over random subsets of 1,000 estimates.
    The standard error is the jackknife's, leaving out one image of either set at a time.
    """
    k_xx, k_xy, k_yy = (kernel(*pair) for pair in ((x, x), (x, y), (y, y)))
    value = float(within(k_xx) + within(k_yy) - 2 * k_xy.mean())
    if min(len(x), len(y)) < 3:
        return Figure(value)
    variance = sum(left_out(own, across) for own, across in ((k_xx, k_xy), (k_yy, k_xy.T)))
    spread = SURE * math.sqrt(variance)
    return Figure(value, value - spread, value + spread)


def kernel(x: Float, y: Float) -> Float:
    return (x @ y.T / x.shape[1] + 1) ** 3


def within(own: Float) -> float:
    """The mean over pairs of different images."""
    n = len(own)
    return (own.sum() - np.trace(own)) / (n * (n - 1))


def left_out(own: Float, across: Float) -> float:
    """The jackknife's variance of a KID over one of its sets, whose kernel matrix is `own` (N, N)."""
    n = len(own)
    inner = own.sum(1) - np.diag(own)
    without = (inner.sum() - 2 * inner) / ((n - 1) * (n - 2))  # the mean of pairs without image i
    without -= 2 * (across.sum() - across.sum(1)) / ((n - 1) * across.shape[1])
    return float((n - 1) / n * np.square(without - without.mean()).sum())
