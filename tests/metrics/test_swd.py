"""The sliced Wasserstein distance against scipy and loops, known values, and what its interval promises."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch

from twofold.metrics import swd
from twofold.metrics.distribution import Estimate
from twofold.metrics.swd import SlicedWasserstein, draw_patches, halvings, merge, pyramid, wasserstein, weigh
from twofold.randomness import generator


def pictures(seed, count, size=20, channels=3, shift=0.0):
    rng = np.random.default_rng(seed)
    return [
        torch.from_numpy(rng.uniform(-1, 1, (channels, size, size)) + shift).float() for _ in range(count)
    ]


def distance(one, other):
    """Of the first set from the second."""
    side = min(min(image.shape[1:]) for image in (*one, *other))
    measure = SlicedWasserstein(other, len(other), side)
    return measure.distance([measure.patches(image, i, len(one)) for i, image in enumerate(one)])


FILTER = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def twin_pyramid(plane, count):
    levels = []
    for _ in range(count):
        smaller = scipy.ndimage.convolve(plane, FILTER, mode="mirror")[::2, ::2]
        spread = np.zeros_like(plane)
        spread[::2, ::2] = smaller
        levels.append(plane - scipy.ndimage.convolve(spread, 4 * FILTER, mode="mirror"))
        plane = smaller
    return [*levels, plane]


@pytest.mark.parametrize("shape", [(64, 64), (37, 70)])
def test_the_pyramid_is_that_of_scipy(shape):
    image = np.random.default_rng(0).uniform(-1, 1, (2, *shape))
    found = pyramid(torch.from_numpy(image).float(), 2)
    for c in range(2):
        for level, expected in zip(found, twin_pyramid(image[c], 2), strict=True):
            assert np.allclose(level[c], expected, atol=1e-6)


def test_levels_end_at_16_pixels():
    assert [halvings(side) for side in (5, 16, 31, 32, 64, 100, 256)] == [0, 0, 0, 1, 2, 2, 4]
    assert [level.shape[1] for level in pyramid(torch.zeros(1, 64, 64), 2)] == [64, 32, 16]
    flat = pyramid(torch.full((1, 32, 48), 0.5), 1)
    assert flat[0].abs().max() < 1e-6 and torch.allclose(flat[1], torch.tensor(0.5))


def test_patches_are_cut_from_different_places():
    image = torch.arange(2 * 9 * 10, dtype=torch.float32).reshape(2, 9, 10)
    found = draw_patches(image, 100, np.random.default_rng(0))
    expected = {
        tuple(image[:, y : y + 7, x : x + 7].permute(1, 2, 0).flatten().tolist())
        for y in range(3)
        for x in range(4)
    }
    assert found.shape == (12, 49, 2)
    assert {tuple(patch.flatten().tolist()) for patch in found} == expected
    assert draw_patches(image, 5, np.random.default_rng(0)).shape == (5, 49, 2)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (2, 5)])
def test_the_distance_of_each_direction_is_that_of_scipy(n, m):
    """With images that count several times or not at all, as in a bootstrap sample."""
    x, y = torch.randn(n, 11, 4), torch.randn(m, 7, 4)
    counts, others = torch.arange(n).float(), torch.arange(m).float() + 1
    found = wasserstein(*merge(x, y), torch.cat([weigh(counts, x), -weigh(others, y)]))
    expected = [
        scipy.stats.wasserstein_distance(
            x[..., k].flatten(),
            y[..., k].flatten(),
            counts.repeat_interleave(11),
            others.repeat_interleave(7),
        )
        for k in range(4)
    ]
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_distance_is_that_of_loops(monkeypatch):
    """Two levels, three and four images, every step written out."""
    monkeypatch.setattr(swd, "PATCHES", 40)
    monkeypatch.setattr(swd, "DIRECTIONS", 5)
    one, other = pictures(1, 3, 32, 2, 0.3), pictures(2, 4, 32, 2)
    levels = []
    for level in range(2):
        rows = []
        for images in (one, other):
            patches = []
            for number, image in enumerate(images):
                planes = np.stack([twin_pyramid(plane, 1)[level] for plane in image.double().numpy()], -1)
                columns = planes.shape[1] - 6
                places = generator("swd patches", number, level).permutation((planes.shape[0] - 6) * columns)
                for place in places[: -(-40 // len(images))]:
                    y, x = divmod(place, columns)
                    patches.append(planes[y : y + 7, x : x + 7].reshape(49, 2))
            rows.append(np.stack(patches))
        mean, std = rows[1].mean((0, 1)), rows[1].std((0, 1))
        x, y = ((each - mean) / std for each in rows)
        drawn = generator("swd directions", level).normal(size=(98, 5))
        drawn /= np.linalg.norm(drawn, axis=0)
        x, y = (each.reshape(-1, 98) @ drawn for each in (x, y))
        levels.append(np.mean([scipy.stats.wasserstein_distance(x[:, k], y[:, k]) for k in range(5)]))
    found = distance(one, other)
    assert found.value == pytest.approx(np.mean(levels), rel=1e-4)


def test_equal_sets_are_at_distance_zero_and_changed_ones_are_not():
    images = pictures(0, 6, 32)
    assert distance(images, images).value == pytest.approx(0, abs=1e-6)
    worse = [
        distance([change(image) for image in images], images).value
        for change in (
            lambda image: image + 0.1,  # wrong colours
            lambda image: image * 0.5,
            lambda image: swd.blur(image),
        )
    ]
    assert min(worse) > 0.02
    assert distance([image + 0.3 for image in images], images).value > 2 * worse[0]


@pytest.mark.parametrize("channels", [1, 2, 13])
def test_any_number_of_channels_and_a_constant_one(channels):
    images = pictures(3, 4, 20, channels)
    for image in images:
        image[0] = 0.25
    assert distance(images, images).value == pytest.approx(0, abs=1e-6)
    assert distance(pictures(4, 4, 20, channels), images).value > 0


def test_one_image_has_no_interval():
    found = distance(pictures(1, 4), pictures(0, 1))
    assert found.value > 0 and (found.low, found.high) == (None, None)
    assert distance(pictures(1, 1), pictures(0, 4)).low is None


def test_images_smaller_than_a_patch_and_of_different_sizes():
    assert distance(pictures(1, 2, 5), pictures(0, 2, 5)).value > 0
    mixed = [*pictures(0, 2, 9), *pictures(1, 2, 24)]
    assert distance(mixed, mixed).value == pytest.approx(0, abs=1e-6)


def test_the_interval_spans_what_other_images_of_the_same_kind_give():
    """Images differ in brightness, so that the images that happen to be held out matter."""

    def drawn(seed):
        rng = np.random.default_rng([5, seed])
        return [torch.randn(1, 16, 16) * 0.2 + float(rng.normal(0.0, 0.5)) for _ in range(20)]

    torch.manual_seed(0)
    found = [distance([x + 1.5 for x in drawn(100 + i)], drawn(i)) for i in range(20)]
    middle = float(np.mean([each.value for each in found]))
    assert sum((each.low or 0) <= middle <= (each.high or 0) for each in found) >= 16
    repeated = distance(drawn(1), drawn(0))
    torch.manual_seed(1)
    assert isinstance(repeated, Estimate) and repeated.low is not None and repeated.high is not None
    assert repeated.low <= repeated.value <= repeated.high
