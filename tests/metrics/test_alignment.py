"""How far edges moved: known shifts, whatever happens to the colours."""

import numpy as np
import pytest
import scipy.ndimage

from twofold.metrics.alignment import SMALLEST, edges_moved


def drawing(height, width, seed=0):
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    return np.clip(128 + 400 * scipy.ndimage.gaussian_filter(noise, (2, 2, 0)), 0, 255)


def moved(image, rows, columns):
    return scipy.ndimage.shift(image, (rows, columns, 0), order=3, mode="mirror")


@pytest.mark.parametrize(("height", "width"), [(40, 48), (64, 64), (130, 200)])
@pytest.mark.parametrize("shift", [(0, 0), (1.5, 0), (0, 3), (-1.5, 1.5), (3, -4)])
def test_known_shifts_in_pixels(height, width, shift):
    image = drawing(height, width)
    assert edges_moved(image, moved(image, *shift)) == pytest.approx(np.hypot(*shift), abs=0.1)


@pytest.mark.parametrize("shift", [0, 1.5, 3])
def test_shifts_under_other_colours_and_noise(shift):
    """Light becomes dark at half the contrast, with noise, in one channel of another range."""
    image = drawing(96, 96)
    noise = np.random.default_rng(1).normal(size=image.shape) * 5
    other = moved((255 - image) / 2 + noise, 0, shift)
    assert edges_moved(image, other) == pytest.approx(shift, abs=0.15)
    assert edges_moved(image, other.mean(2, keepdims=True) * 16) == pytest.approx(shift, abs=0.3)


def test_a_part_that_moved_is_a_part_of_the_blocks():
    """The median of blocks: less than half of an image may move."""
    image = drawing(256, 256)
    half = moved(image, 0, 3)
    half[:, 80:] = image[:, 80:]
    assert edges_moved(image, half) < 0.1
    half = moved(image, 0, 3)
    half[:, :80] = image[:, :80]
    assert edges_moved(image, half) == pytest.approx(3, abs=0.1)


def test_nothing_in_common_gives_no_figure():
    image = drawing(128, 128)
    assert np.isnan(edges_moved(image, np.full_like(image, 7)))
    assert np.isnan(edges_moved(image, drawing(128, 128, 5)))
    small = drawing(SMALLEST - 1, 64)
    assert np.isnan(edges_moved(small, small))
    assert edges_moved(drawing(SMALLEST, 64), drawing(SMALLEST, 64)) == 0
