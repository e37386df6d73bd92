"""PSNR, SSIM and the histogram match, each against a twin written out by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from twofold.metrics import image as paired
from twofold.metrics.image import MS_SSIM_SIDE, match_histogram, ms_ssim, score, ssim_map


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def noise(rng, *shape, low=0, high=256):
    return rng.integers(low, high, shape, dtype=np.uint8)


def psnr(x, y):
    """10 log10 of 255² over the mean squared error, over all channels."""
    return 10 * math.log10(255**2 / np.mean((x.astype(float) - y.astype(float)) ** 2))


def ssim(x, y):
    """Wang et al. 2004, §III-B, window by window: 11 × 11 Gaussian of σ 1.5, K₁ 0.01, K₂ 0.03."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    wide = [np.pad(z.astype(float), [(5, 5), (5, 5), (0, 0)], "reflect") for z in (x, y)]
    for c in range(x.shape[2]):
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                a, b = (z[i : i + 11, j : j + 11, c] for z in wide)
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
                both = (window * a * b).sum() - mean_a * mean_b
                luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
                values.append(luminance * (2 * both + c2) / (var_a + var_b + c2))
    return np.mean(values)


@pytest.mark.parametrize("channels", [1, 3])
def test_figures_equal_their_twins(rng, channels):
    answers = [noise(rng, 17, 14, channels) for _ in range(3)]
    results = [
        np.clip(x + rng.normal(0, 9 * k + 1, x.shape), 0, 255).astype(np.uint8) for k, x in enumerate(answers)
    ]
    found = score(results, answers)
    assert found.psnr == pytest.approx(np.mean([psnr(*pair) for pair in zip(results, answers, strict=True)]))
    assert found.ssim == pytest.approx(
        np.mean([ssim(*pair) for pair in zip(results, answers, strict=True)]), abs=1e-6
    )


def test_figures_are_those_of_scikit_image(rng):
    """Which mirrors edges differently, so that only pixels beyond their reach are compared."""
    x, y = noise(rng, 40, 33, 3), noise(rng, 40, 33, 3)
    y = (x // 2 + y // 2).astype(np.uint8)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, full = structural_similarity(x, y, channel_axis=2, full=True, **options)
    inner = np.s_[5:-5, 5:-5]
    assert np.allclose(np.moveaxis(ssim_map(x, y), 0, 2)[inner], full[inner], atol=1e-9)
    assert paired.psnr(x, y) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), rel=1e-12)


@pytest.fixture
def shades(rng):
    """Two images that are alike at every scale, and more so at coarse ones."""

    def make(high, wide, channels):
        hills = np.add.outer(np.sin(np.arange(high) / 9), np.cos(np.arange(wide) / 7))[..., None]
        x = np.clip(128 + 50 * hills + rng.normal(0, 20, (high, wide, channels)), 0, 255)
        y = np.clip(0.8 * x + rng.normal(10, 20, x.shape), 0, 255)
        return x.astype(np.uint8), y.astype(np.uint8)

    return make


@pytest.mark.parametrize("shape", [(MS_SSIM_SIDE, MS_SSIM_SIDE + 9, 3), (201, 190, 1)])
def test_ssim_and_ms_ssim_are_those_of_torchmetrics(shades, shape):
    x, y = shades(*shape)
    levels = [torch.from_numpy(image).permute(2, 0, 1)[None].double() for image in (x, y)]
    theirs = structural_similarity_index_measure(*levels, data_range=255.0)
    assert paired.ssim(x, y) == pytest.approx(float(theirs), rel=1e-9)
    theirs = multiscale_structural_similarity_index_measure(*levels, data_range=255.0, normalize="relu")
    assert ms_ssim(x, y) == pytest.approx(float(theirs), rel=1e-6)  # whose exponents are float32


def test_the_coarse_scales_of_ms_ssim_forgive_noise(shades, rng):
    x, y = shades(MS_SSIM_SIDE, MS_SSIM_SIDE, 3)
    assert ms_ssim(x, x) == pytest.approx(1)
    assert paired.ssim(x, y) < ms_ssim(x, y) < 1
    assert ms_ssim(x, 255 - x) == 0  # whose structure is the opposite


def test_an_equal_picture_is_perfect(rng):
    image = noise(rng, 16, 16, 3)
    assert score([image], [image]) == (math.inf, pytest.approx(1.0))


def test_pictures_must_come_in_pairs(rng):
    with pytest.raises(ValueError, match="shorter"):
        score([noise(rng, 16, 16, 3)], [])


def match_by_sorting(images, source, target):
    """The pixel in the middle of a level's run among the sorted source finds its like among the sorted target."""
    results = []
    for image in images:
        result = np.empty_like(image)
        for c in range(image.shape[2]):
            ranked, goal = (np.sort(np.concatenate([i[..., c].ravel() for i in z])) for z in (source, target))
            for level in np.unique(image[..., c]):
                first, last = (np.searchsorted(ranked, level, side) for side in ("left", "right"))
                place = math.ceil((first + last) / 2 * len(goal) / len(ranked))
                result[..., c][image[..., c] == level] = goal[max(place, 1) - 1]
        results.append(result)
    return results


def test_histograms_are_matched_as_by_sorting(rng):
    source = [noise(rng, 9, 11, 3, low=20, high=90), noise(rng, 5, 5, 3, low=60, high=120)]
    target = [noise(rng, 13, 8, 3, low=100, high=180), noise(rng, 6, 6, 3, low=240)]
    images = [noise(rng, 7, 7, 3), *source]
    for found, twin in zip(
        match_histogram(images, source, target), match_by_sorting(images, source, target), strict=True
    ):
        assert np.array_equal(found, twin)


def counts(images, channel):
    return np.bincount(np.concatenate([i[..., channel].ravel() for i in images]), minlength=256)


def test_the_pooled_histogram_becomes_the_targets(rng):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)  # each level as often as any other
    target = np.repeat(noise(rng, 8, 8, 1), 4, axis=1)  # each level a multiple of four times
    source = [np.repeat(ramp[::4], 4, axis=0)]
    matched = match_histogram(source, source, [target])
    assert np.array_equal(counts(matched, 0) * len(target.ravel()), counts([target], 0) * 256)


def test_the_match_is_as_near_as_whole_levels_allow(rng):
    source = [noise(rng, 40, 40, 2, low=10, high=60)]
    target = [noise(rng, 33, 37, 2, low=200), noise(rng, 9, 9, 2, high=30)]
    matched = match_histogram(source, source, target)
    for c in range(2):
        got, goal, had = (counts(z, c) / counts(z, c).sum() for z in (matched, target, source))
        assert np.abs(np.cumsum(got) - np.cumsum(goal)).max() <= had.max()


def test_levels_that_the_target_has_not_do_not_come_out(rng):
    source, target = [noise(rng, 20, 20, 1)], [np.full((4, 4, 1), 100, np.uint8)]
    assert np.unique(match_histogram([noise(rng, 20, 20, 1)], source, target)[0]).tolist() == [100]
    two = [np.array([[[50], [200]]], np.uint8)]
    assert set(np.unique(match_histogram(source, source, two)[0])) == {50, 200}


def test_a_picture_matched_to_itself_stays(rng):
    images = [noise(rng, 12, 12, 3)]
    assert np.array_equal(match_histogram(images, images, images)[0], images[0])
