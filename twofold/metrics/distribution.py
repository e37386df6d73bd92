"""Distances between two sets of images in a network's features, float64 (N, D), and confidence intervals."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.randomness import generator

Float = NDArray[np.float64]

DRAWS, FID_DRAWS = 1000, 40
"""Bootstrap samples behind the interval of a mean, and of a FID, where each takes a singular value decomposition."""

Z = 1.96
"""Standard deviations of a normal distribution around its middle 95 %."""


class Estimate(NamedTuple):
    """A measured value and its 95 % confidence interval; None where there are too few images for one."""

    value: float
    low: float | None = None
    high: float | None = None


def mean_estimate(values: Sequence[float] | Float, *key: int | str) -> Estimate:
    """The mean over images, with its bootstrap interval; `key` names the random draws."""
    rows = np.asarray(values, np.float64)
    return bootstrap(lambda counts: float(counts @ rows / counts.sum()), len(rows), *key)


def bootstrap(statistic: Callable[[Float], float], count: int, *key: int | str) -> Estimate:
    """A statistic of `count` images and its bootstrap interval (percentiles; Efron & Tibshirani 1993, §13.3).

    Args:
        statistic: takes how often each image counts, float64 (count,).
        key: names the random draws.
    """
    value = statistic(np.ones(count))
    if count < 2 or not math.isfinite(value):
        return Estimate(value)
    draws = generator("bootstrap", count, *key).multinomial(count, np.full(count, 1 / count), DRAWS)
    low, high = np.nanpercentile([statistic(counts.astype(np.float64)) for counts in draws], [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def fid(x: Float, y: Float, *key: int | str) -> Estimate:
    """The FID of features (N, D) and (M, D), and an interval from bootstrap samples of both sets.

    A FID is biased upwards, more so with fewer images, and that of a bootstrap sample still more; so only the spread
    of the samples is used, around the FID of all images. `key` names the random draws.
    """
    value = frechet_distance(x, y)
    if min(len(x), len(y)) < 2:
        return Estimate(value)
    rng = generator("bootstrap fid", len(x), len(y), *key)
    draws = []
    for _ in range(FID_DRAWS):
        counts = (rng.multinomial(n, np.full(n, 1 / n)).astype(float) for n in (len(x), len(y)))
        draws.append(frechet_distance(x, y, *counts))
    spread = Z * float(np.std(draws, ddof=1))
    return Estimate(value, max(0.0, value - spread), value + spread)


def frechet_distance(x: Float, y: Float, count_x: Float | None = None, count_y: Float | None = None) -> float:
    """The squared Fréchet distance of the normal distributions that fit features (N, D) and (M, D).

    Heusel et al. 2017 (arXiv 1706.08500), equation 6. With centred rows X and Y, each divided by the root of one
    less than their number, the covariances are XᵀX and YᵀY, and the trace of the root of their product is the sum
    of the singular values of XYᵀ. This is exact with fewer images than features, where the matrix root fails.

    Args:
        count_x, count_y: how often each row counts; once if not given.
    """
    (mean_x, left), (mean_y, right) = moments(x, count_x), moments(y, count_y)
    shared = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    gap = np.square(mean_x - mean_y).sum()
    return float(gap + np.square(left).sum() + np.square(right).sum() - 2 * shared)


def moments(x: Float, counts: Float | None) -> tuple[Float, Float]:
    """The mean (D,) of rows (N, D), and at most D rows R with RᵀR their covariance (divided by N - 1)."""
    counts = np.ones(len(x)) if counts is None else counts
    total, drawn = counts.sum(), counts > 0
    mean = counts @ x / total
    rows = (x[drawn] - mean) * np.sqrt(counts[drawn] / (total - 1))[:, None]
    return mean, np.linalg.qr(rows).R if len(rows) > rows.shape[1] else rows


def kid(x: Float, y: Float) -> Estimate:
    """The KID of features (N, D) and (M, D), and an interval from its standard error.

    The unbiased estimate of the squared maximum mean discrepancy under the kernel (x·y / D + 1)³ (Bińkowski et al.
    2018, arXiv 1801.01401, §4), over all images at once; the usual mean over random subsets of 1,000 estimates the
    same. The standard error is the jackknife's, leaving out one image of either set at a time.
    """
    k_xx, k_xy, k_yy = (kernel(*pair) for pair in ((x, x), (x, y), (y, y)))
    value = float(mean_of_pairs(k_xx) + mean_of_pairs(k_yy) - 2 * k_xy.mean())
    if min(len(x), len(y)) < 3:
        return Estimate(value)
    spread = Z * math.sqrt(jackknife_variance(k_xx, k_xy) + jackknife_variance(k_yy, k_xy.T))
    return Estimate(value, value - spread, value + spread)


def kernel(x: Float, y: Float) -> Float:
    return (x @ y.T / x.shape[1] + 1) ** 3


def mean_of_pairs(own: Float) -> float:
    """The mean of a kernel matrix (N, N) over pairs of different images."""
    n = len(own)
    return (own.sum() - np.trace(own)) / (n * (n - 1))


def jackknife_variance(own: Float, across: Float) -> float:
    """The variance of a KID over one of its sets, with kernel matrices `own` (N, N) and `across` (N, M)."""
    n = len(own)
    inner = own.sum(1) - np.diag(own)
    without = (inner.sum() - 2 * inner) / ((n - 1) * (n - 2))  # the mean of pairs without image i
    without -= 2 * (across.sum() - across.sum(1)) / ((n - 1) * across.shape[1])
    return float((n - 1) / n * np.square(without - without.mean()).sum())
