"""FID and KID against scipy's matrix root and loops; intervals against what they promise."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from twofold.metrics import distribution
from twofold.metrics.distribution import (
    Estimate,
    difference,
    fid,
    influences,
    kid,
    mean_estimate,
    student_t,
)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def features(rng, count, width, shift=0.0):
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + shift


def by_matrix_root(x, y):
    """|μ - ν|² + tr(Σ + Γ - 2 (ΣΓ)^½), literally."""
    sigma, gamma = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(sigma @ gamma)
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(sigma + gamma - 2 * root.real)


@pytest.mark.parametrize(("n", "m", "width"), [(40, 60, 8), (200, 30, 16), (64, 64, 5)])
def test_fid_is_that_of_the_matrix_root(rng, n, m, width):
    x, y = features(rng, n, width), features(rng, m, width, 0.3)
    assert fid(x, y).value == pytest.approx(by_matrix_root(x, y), rel=1e-9)


def test_fid_of_fewer_images_than_features(rng):
    """scipy's root of a singular product is only good to the root of its precision: 8 digits become 4."""
    x, y = features(rng, 12, 30), features(rng, 15, 30, 0.5)
    assert fid(x, y).value == pytest.approx(by_matrix_root(x, y), rel=1e-4)
    wide = np.concatenate([x, np.zeros((12, 200))], 1), np.concatenate([y, np.zeros((15, 200))], 1)
    assert fid(*wide).value == pytest.approx(fid(x, y).value, rel=1e-12)


def test_equal_sets_are_at_distance_zero(rng):
    x = features(rng, 20, 40)
    assert fid(x, x[::-1]).value == pytest.approx(0, abs=1e-9)


def weighted(x, y, weights):
    """The FID where the images of x count differently, by the matrix root."""
    mean, n = weights @ x, len(x)
    sigma, gamma = (x - mean).T @ np.diag(weights) @ (x - mean) * n / (n - 1), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(sigma @ gamma).real
    return np.sum((mean - y.mean(0)) ** 2) + np.trace(sigma + gamma - 2 * root)


def test_influences_are_derivatives(rng):
    """Against finite differences by the weight of one image."""
    x, y = features(rng, 20, 4), features(rng, 15, 4, 0.4)
    value, of_x, of_y = influences(x, y)
    back, other_y, other_x = influences(y, x)
    assert back == pytest.approx(value) and np.allclose(other_x, of_x) and np.allclose(other_y, of_y)
    even, step = np.full(20, 1 / 20), 1e-5
    for i in range(20):
        to_i = np.eye(20)[i] - even
        slope = (weighted(x, y, even + step * to_i) - weighted(x, y, even - step * to_i)) / (2 * step)
        of_mean = 2 * (x.mean(0) - y.mean(0)) @ (x[i] - x.mean(0))
        assert slope == pytest.approx(of_mean + (of_x[i] - of_mean) * 20 / 19, rel=1e-4, abs=1e-4)


def test_influences_with_fewer_images_than_features(rng):
    """Columns of zeros change nothing."""
    x, y = features(rng, 20, 4), features(rng, 15, 4, 0.4)
    wide = np.concatenate([x, np.zeros((20, 30))], 1), np.concatenate([y, np.zeros((15, 30))], 1)
    for narrow, padded in zip(influences(x, y), influences(*wide), strict=True):
        assert np.allclose(narrow, padded, rtol=1e-6, atol=1e-6)


def by_loops(x, y):
    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    n, m = len(x), len(y)
    return (
        sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        + sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
        - 2 * sum(k(a, b) for a in x for b in y) / (n * m)
    )


def test_kid_and_its_error_are_those_of_loops(rng):
    x, y = features(rng, 9, 3), features(rng, 7, 3, 0.4)
    found = kid(x, y)
    assert found.value == pytest.approx(by_loops(x, y), rel=1e-9)
    variance = 0.0
    for rows, without in ((x, lambda i: (np.delete(x, i, 0), y)), (y, lambda i: (x, np.delete(y, i, 0)))):
        left = np.array([by_loops(*without(i)) for i in range(len(rows))])
        variance += (len(rows) - 1) / len(rows) * np.sum((left - left.mean()) ** 2)
    assert found.high is not None
    assert found.high - found.value == pytest.approx(1.96 * variance**0.5, rel=1e-9)
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_kid_in_blocks_is_that_of_whole_matrices(rng, monkeypatch):
    x, y = features(rng, 25, 3), features(rng, 17, 3, 0.4)
    whole = kid(x, y)
    monkeypatch.setattr(distribution, "BLOCK", 4)
    assert kid(x, y) == pytest.approx(whole, rel=1e-12)


def covered(interval, truth, repeats):
    """In how many of the repeats the interval holds the truth."""
    found = [interval(np.random.default_rng([7, i])) for i in range(repeats)]
    return sum(estimate.low <= truth <= estimate.high for estimate in found) / repeats


@pytest.mark.parametrize("count", [6, 20, 60])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(count):
    """Of 100 for a 95 % interval, also of few images and of a skewed distribution."""
    assert covered(lambda rng: mean_estimate(rng.normal(size=count), "test"), 0.0, 100) >= 0.9
    skewed = covered(lambda rng: mean_estimate(rng.exponential(size=count), "test"), 1.0, 100)
    assert skewed >= (0.9 if count > 6 else 0.8)


def two_sets(n, m, width, shift, scale):
    """Draws features of two kinds of images; many features, few of them large, as those of networks are."""
    mix = np.random.default_rng(0).normal(size=(width, width)) / width**0.5 * np.geomspace(1, 0.05, width)
    return lambda rng: (
        rng.normal(size=(n, width)) @ mix,
        rng.normal(size=(m, width)) @ mix * scale + shift,
    )


SETS = [(60, 60, 8, 0.3, 1.4), (60, 60, 8, 0.0, 1.0), (40, 50, 64, 0.3, 1.4), (200, 200, 64, 0.1, 1.1)]
"""Images of each, features, shift and scale: sets that differ or do not, with more and fewer images than features."""


@pytest.mark.parametrize("measure", [fid, kid])
@pytest.mark.parametrize("sizes", SETS)
def test_intervals_of_distances_hold_the_truth_as_often_as_they_say(measure, sizes):
    """The truth is the mean over fresh sets of as many images: FID's bias is not part of the interval."""
    draw = two_sets(*sizes)
    truth = np.mean([measure(*draw(np.random.default_rng([8, i]))).value for i in range(200)])
    assert covered(lambda rng: measure(*draw(rng)), truth, 100) >= 0.9


def test_students_t():
    for freedom in (4, 6, 9, 30, 200):
        assert student_t(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=4e-3)


def test_the_interval_of_a_difference():
    found = difference(Estimate(5.0, 2.0, 8.0), Estimate(1.0, -3.0, 5.0))
    assert found == pytest.approx((4.0, -1.0, 9.0))
    assert difference(Estimate(5.0), Estimate(1.0, 0.0, 2.0)) == Estimate(4.0)


def test_an_interval_is_the_same_each_time(rng):
    values = rng.normal(size=30)
    assert mean_estimate(values, "psnr") == mean_estimate(values, "psnr") != mean_estimate(values, "ssim")
    assert mean_estimate(values, "psnr").value == pytest.approx(values.mean())


def test_few_images_have_no_interval(rng):
    assert mean_estimate([3.0]) == Estimate(3.0)
    assert mean_estimate([3.0, 4.0, 5.0, 6.0]) == Estimate(4.5)
    few = features(rng, 4, 3), features(rng, 9, 3)
    assert fid(*few).low is None and kid(*few).low is None
    assert mean_estimate([np.inf, 1.0]) == Estimate(np.inf)


def test_the_interval_of_a_fid_is_around_it(rng):
    x, y = features(rng, 50, 6), features(rng, 60, 6, 1.0)
    found = fid(x, y)
    assert found.low < found.value < found.high
    assert fid(x, y) == found
