"""PSNR, SSIM, MS-SSIM and the histogram match, each against a twin written out by hand."""

import math

import numpy as np
import pytest
import scipy.ndimage
from skimage.metrics import peak_signal_noise_ratio

from twofold.formats.contract import Contract
from twofold.metrics import image as metrics
from twofold.metrics.image import MS_SSIM_SIDE, limits_of, match_histogram, ms_ssim


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def noise(rng, *shape, low=0, high=256):
    return rng.integers(low, high, shape, dtype=np.uint8)


def psnr(x, y, low=0, high=255):
    """10 log10 of the squared range over the mean squared error, over all channels."""
    return 10 * math.log10((high - low) ** 2 / np.mean((x.astype(float) - y.astype(float)) ** 2))


def ssim(x, y, low=0, high=255):
    """Wang et al. 2004, §III-B, window by window: 11 × 11 Gaussian of σ 1.5, K₁ 0.01, K₂ 0.03, values from 0."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2
    values = []
    wide = [np.pad(z.astype(float) - low, [(5, 5), (5, 5), (0, 0)], "reflect") for z in (x, y)]
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
@pytest.mark.parametrize("strength", [1, 10, 19])
def test_psnr_and_ssim_equal_their_twins(rng, channels, strength):
    answer = noise(rng, 17, 14, channels)
    result = np.clip(answer + rng.normal(0, strength, answer.shape), 0, 255).astype(np.uint8)
    assert metrics.psnr(result, answer) == pytest.approx(psnr(result, answer))
    assert metrics.psnr(result, answer) == pytest.approx(peak_signal_noise_ratio(answer, result), rel=1e-12)
    assert metrics.ssim(result, answer) == pytest.approx(ssim(result, answer), abs=1e-6)


RANGES = [
    ("uint16", 0, 4095),
    ("uint16", 0, 65535),
    ("uint16", 30_000, 31_000),
    ("int16", -1024, 3071),
    ("float32", -0.5, 0.25),
    ("float32", 0, 1e-3),
    ("int32", -(10**6), 10**6),
]


@pytest.mark.parametrize(("dtype", "low", "high"), RANGES)
@pytest.mark.parametrize("channels", [1, 13])
def test_every_type_and_range_equals_the_twins(rng, dtype, low, high, channels):
    answer = rng.uniform(low, high, (12, 13, channels)).astype(dtype)
    result = (answer + rng.normal(0, (high - low) / 30, answer.shape)).clip(low, high).astype(dtype)
    limits = (float(low), float(high))
    assert metrics.psnr(result, answer, limits) == pytest.approx(psnr(result, answer, low, high))
    skimage = peak_signal_noise_ratio(answer.astype(float), result.astype(float), data_range=high - low)
    assert metrics.psnr(result, answer, limits) == pytest.approx(skimage, rel=1e-12)
    assert metrics.ssim(result, answer, limits) == pytest.approx(ssim(result, answer, low, high), abs=2e-5)
    mae = np.mean([abs(float(x) - float(y)) for x, y in zip(result.flat, answer.flat, strict=True)])
    assert metrics.mae(result, answer) == pytest.approx(mae, rel=1e-12)


def test_a_contract_gives_its_limits():
    assert limits_of(Contract("int16", 1, (-1024.0,), (3071.0,))) == (-1024.0, 3071.0)
    assert limits_of(Contract("uint16", 2, (5.0, 0.0), (900.0, 4095.0))) == (0.0, 4095.0)
    assert limits_of(Contract()) == (0.0, 255.0)


@pytest.fixture
def shades(rng):
    """Two images that are alike at every scale, and more so at coarse ones."""

    def make(high, wide, channels):
        hills = np.add.outer(np.sin(np.arange(high) / 9), np.cos(np.arange(wide) / 7))[..., None]
        x = np.clip(128 + 50 * hills + rng.normal(0, 20, (high, wide, channels)), 0, 255)
        y = np.clip(0.8 * x + rng.normal(10, 20, x.shape), 0, 255)
        return x.astype(np.uint8), y.astype(np.uint8)

    return make


def ms_ssim_twin(x, y):
    """Wang et al. 2003, §3.2: contrast and structure where windows are whole; the coarsest scale's SSIM up to the edges."""
    exponents, product = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333), 1.0
    x, y = (np.moveaxis(z.astype(float), 2, 0) for z in (x, y))

    def blurred(z):
        return scipy.ndimage.gaussian_filter(z, (0, 1.5, 1.5), mode="mirror", radius=(0, 5, 5))

    for scale, exponent in enumerate(exponents):
        mean_x, mean_y = blurred(x), blurred(y)
        var_x, var_y, both = (
            blurred(x * x) - mean_x**2,
            blurred(y * y) - mean_y**2,
            blurred(x * y) - mean_x * mean_y,
        )
        factor = (2 * both + 58.5225) / (var_x + var_y + 58.5225)
        if scale == 4:
            factor = factor * (2 * mean_x * mean_y + 6.5025) / (mean_x**2 + mean_y**2 + 6.5025)
        else:
            factor = factor[:, 5:-5, 5:-5]
        product *= max(factor.mean(), 0) ** exponent
        high, wide = (side // 2 * 2 for side in x.shape[1:])
        x, y = (z[:, :high, :wide].reshape(len(z), high // 2, 2, wide // 2, 2).mean((2, 4)) for z in (x, y))
    return product


@pytest.mark.parametrize("shape", [(MS_SSIM_SIDE, MS_SSIM_SIDE + 9, 3), (201, 190, 1)])
def test_ms_ssim_equals_its_twin(shades, shape):
    x, y = shades(*shape)
    assert ms_ssim(x, y) == pytest.approx(ms_ssim_twin(x, y), rel=1e-5)


@pytest.mark.parametrize(
    ("factor", "shift", "dtype"), [(257, 0, "uint16"), (16, -1024, "int16"), (0.5, -3, "float32")]
)
def test_the_same_image_in_other_units_has_the_same_figures(shades, factor, shift, dtype):
    x, y = shades(MS_SSIM_SIDE, MS_SSIM_SIDE, 1)
    deep = [(image * float(factor) + shift).astype(dtype) for image in (x, y)]
    limits = (float(shift), 255.0 * factor + shift)
    assert metrics.psnr(*deep, limits) == pytest.approx(metrics.psnr(x, y), rel=1e-6)
    assert metrics.ssim(*deep, limits) == pytest.approx(metrics.ssim(x, y), abs=1e-5)
    assert ms_ssim(*deep, limits) == pytest.approx(ms_ssim(x, y), abs=1e-5)
    assert metrics.mae(*deep) == pytest.approx(factor * metrics.mae(x, y), rel=1e-6)


def test_the_coarse_scales_of_ms_ssim_forgive_noise(shades, rng):
    x, y = shades(MS_SSIM_SIDE, MS_SSIM_SIDE, 3)
    assert ms_ssim(x, x) == pytest.approx(1)
    assert metrics.ssim(x, y) < ms_ssim(x, y) < 1
    assert ms_ssim(x, 255 - x) == 0  # its structure is the opposite


def test_an_equal_picture_is_perfect(rng):
    image = noise(rng, 16, 16, 3)
    assert metrics.psnr(image, image) == math.inf
    assert metrics.ssim(image, image) == pytest.approx(1)


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
