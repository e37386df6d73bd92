"""Distances between two sets of images in a network's features, float64 (N, D), and confidence intervals."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.randomness import generator

Float = NDArray[np.float64]

DRAWS, FEWEST = 1000, 5
"""Bootstrap samples behind an interval, and the fewest images that one is given for."""

Z = 1.96
"""Standard deviations of a normal distribution around its middle 95 %."""

BLOCK = 2000
"""Rows of a kernel matrix that KID holds at a time."""


class Estimate(NamedTuple):
    """A measured value and its 95 % confidence interval; None where there are too few images for one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half of the interval; None without one."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def mean_estimate(values: Sequence[float] | Float, *key: int | str) -> Estimate:
    """The mean over images, with its bootstrap interval; `key` names the random draws."""
    rows = np.asarray(values, np.float64)
    return bootstrap(lambda counts: float(counts @ rows / counts.sum()), len(rows), *key)


def bootstrap(statistic: Callable[[Float], float], count: int, *key: int | str) -> Estimate:
    """A statistic of `count` images and its bootstrap interval; no interval for fewer than `FEWEST` images.

    Percentiles of bootstrap samples, expanded as Student's t interval is wider than the normal one, because plain
    percentiles are too narrow for few images (Hesterberg 2015, arXiv 1411.5279, "expanded percentile").

    Args:
        statistic: takes how often each image counts, float64 (count,).
        key: names the random draws.
    """
    value = statistic(np.ones(count))
    if count < FEWEST or not math.isfinite(value):
        return Estimate(value)
    draws = generator("bootstrap", count, *key).multinomial(count, np.full(count, 1 / count), DRAWS)
    tail = 100 * NormalDist().cdf(-student_t(count - 1) * math.sqrt(count / (count - 1)))
    found = [statistic(counts.astype(np.float64)) for counts in draws]
    low, high = np.nanpercentile(found, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def student_t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t for at least 4 degrees of freedom (Abramowitz & Stegun 1964, 26.7.5)."""
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
    )
    return Z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """`one` less `other`, both estimated from different draws: half intervals add up in quadrature."""
    value = one.value - other.value
    if one.half is None or other.half is None or not math.isfinite(value):
        return Estimate(value)
    spread = math.hypot(one.half, other.half)
    return Estimate(value, value - spread, value + spread)


def fid(x: Float, y: Float) -> Estimate:
    """The FID of features (N, D) and (M, D): the squared Fréchet distance of the normal distributions that fit them.

    Heusel et al. 2017 (arXiv 1706.08500), equation 6. The interval, from the influence of each image, is for FIDs of
    as many images. It does not contain the bias: FIDs of few images are too high.
    """
    value, of_x, of_y = influences(x, y)
    if min(len(x), len(y)) < FEWEST:
        return Estimate(value)
    spread = Z * math.sqrt(sum(float(np.square(each).sum()) / len(each) ** 2 for each in (of_x, of_y)))
    return Estimate(value, max(0.0, value - spread), value + spread)


def influences(x: Float, y: Float) -> tuple[float, Float, Float]:
    """The FID, and by how much it would grow for each image (N,) and (M,) whose weight grows (Hampel 1974).

    With centred rows X and Y, each divided by the root of one less than their number, the covariances are XᵀX and
    YᵀY, and the trace of the root of their product is the sum of the singular values of XYᵀ = U S Vᵀ. This is exact
    with fewer images than features, where the matrix root fails. The transport map T from the normal distribution of
    X to that of Y has x T xᵀ = Σ_k s_k u_k² for each row x of X, and the reverse map has Σ_k s_k v_k² for each row of
    Y, so T need not be computed. QR decompositions first reduce X and Y to at most as many rows as features.
    """
    gap = x.mean(0) - y.mean(0)
    rows_x, rows_y = centred(x), centred(y)
    (basis_x, small_x), (basis_y, small_y) = np.linalg.qr(rows_x), np.linalg.qr(rows_y)
    u, s, v = np.linalg.svd(small_x @ small_y.T, full_matrices=False)
    value = np.square(gap).sum() + np.square(rows_x).sum() + np.square(rows_y).sum() - 2 * s.sum()
    of_x = influence(rows_x, basis_x @ u, s, 2 * gap)
    return float(value), of_x, influence(rows_y, basis_y @ v.T, s, -2 * gap)


def influence(rows: Float, vectors: Float, s: Float, slope: Float) -> Float:
    """Of each centred row, with the derivative by the mean as `slope`."""
    found = rows @ slope * math.sqrt(len(rows) - 1)
    found += (np.square(rows).sum(1) - np.square(vectors) @ s) * (len(rows) - 1)
    return found - found.mean()


def centred(x: Float) -> Float:
    """Rows (N, D) less their mean, over √(N - 1): RᵀR is the covariance."""
    return (x - x.mean(0)) / math.sqrt(max(1, len(x) - 1))


def kid(x: Float, y: Float) -> Estimate:
    """The KID of features (N, D) and (M, D), and an interval from its standard error.

    The unbiased estimate of the squared maximum mean discrepancy under the kernel (x·y / D + 1)³ (Bińkowski et al.
    2018, arXiv 1801.01401, §4), over all images at once; the usual mean over random subsets of 1,000 estimates the
    same. The standard error is the jackknife's, leaving out one image of either set at a time. The kernel matrices
    are never in memory as a whole: their sums by row are enough.
    """
    own_x, own_y, across_x, across_y = (row_sums(*pair) for pair in ((x, x), (y, y), (x, y), (y, x)))
    own_x, own_y = own_x - to_itself(x), own_y - to_itself(y)
    n, m = len(x), len(y)
    value = float(own_x.sum() / (n * (n - 1)) + own_y.sum() / (m * (m - 1)) - 2 * across_x.sum() / (n * m))
    if min(n, m) < FEWEST:
        return Estimate(value)
    variance = jackknife_variance(own_x, across_x, m) + jackknife_variance(own_y, across_y, n)
    spread = Z * math.sqrt(variance)
    return Estimate(value, value - spread, value + spread)


def row_sums(x: Float, y: Float) -> Float:
    """The sums of the kernel matrix (N, M) by row."""
    blocks = (x[start : start + BLOCK] for start in range(0, len(x), BLOCK))
    return np.concatenate([((block @ y.T / x.shape[1] + 1) ** 3).sum(1) for block in blocks])


def to_itself(x: Float) -> Float:
    """The kernel of each row with itself."""
    return (np.square(x).sum(1) / x.shape[1] + 1) ** 3


def jackknife_variance(inner: Float, across: Float, others: int) -> float:
    """The variance of a KID over one of its sets.

    Args:
        inner: each image's kernel with the others of its set, summed (N,).
        across: with the images of the other set (N,), of which there are `others`.
    """
    n = len(inner)
    without = (inner.sum() - 2 * inner) / ((n - 1) * (n - 2))  # the mean of pairs without image i
    without -= 2 * (across.sum() - across) / ((n - 1) * others)
    return float((n - 1) / n * np.square(without - without.mean()).sum())
