"""FID and KID against scipy's matrix root and loops; intervals against what they promise."""

import numpy as np
import pytest
import scipy.linalg

from twofold.metrics.distribution import Estimate, fid, frechet_distance, kid, mean_estimate


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
    assert frechet_distance(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-9)


def test_fid_of_fewer_images_than_features(rng):
    """scipy's root of a singular product is only good to the root of its precision: 8 digits become 4."""
    x, y = features(rng, 12, 30), features(rng, 15, 30, 0.5)
    assert frechet_distance(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-4)
    wide = np.concatenate([x, np.zeros((12, 200))], 1), np.concatenate([y, np.zeros((15, 200))], 1)
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(x, y), rel=1e-12)


def test_equal_sets_are_at_distance_zero(rng):
    x = features(rng, 20, 40)
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-9)


def test_counts_are_repeated_rows(rng):
    x, y = features(rng, 9, 4), features(rng, 11, 4)
    counts_x, counts_y = rng.integers(0, 4, 9), rng.integers(0, 3, 11)
    repeated = frechet_distance(np.repeat(x, counts_x, 0), np.repeat(y, counts_y, 0))
    assert frechet_distance(x, y, counts_x.astype(float), counts_y.astype(float)) == pytest.approx(repeated)


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


def covered(interval, truth, repeats):
    """In how many of the repeats the interval holds the truth."""
    found = [interval(np.random.default_rng([7, i])) for i in range(repeats)]
    return sum(estimate.low <= truth <= estimate.high for estimate in found) / repeats


def test_intervals_hold_the_truth_as_often_as_they_say():
    assert 0.85 < covered(lambda rng: mean_estimate(rng.exponential(size=60), "test"), 1.0, 100) <= 1
    assert 0.85 < covered(lambda rng: kid(rng.normal(size=(40, 3)), rng.normal(size=(40, 3))), 0.0, 100) <= 1


def test_an_interval_is_the_same_each_time(rng):
    values = rng.normal(size=30)
    assert mean_estimate(values, "psnr") == mean_estimate(values, "psnr") != mean_estimate(values, "ssim")
    assert mean_estimate(values, "psnr").value == pytest.approx(values.mean())


def test_one_image_has_no_interval():
    assert mean_estimate([3.0]) == Estimate(3.0)
    assert mean_estimate([np.inf, 1.0]) == Estimate(np.inf)


def test_the_interval_of_a_fid_is_around_it(rng):
    x, y = features(rng, 50, 6), features(rng, 60, 6, 1.0)
    found = fid(x, y)
    assert found.value == frechet_distance(x, y)
    assert found.low < found.value < found.high
    assert fid(x, y) == found
