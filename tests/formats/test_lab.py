import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from twofold.formats import lab as colours
from twofold.formats.lab import from_lab, to_lab

LEVELS = np.arange(0, 256, 15, dtype=np.uint8)
EVERY = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS), -1).reshape(-1, len(LEVELS), 3)
SCALE, SHIFT = np.array([2.55, 1, 1]), np.array([0, 128, 128])


def test_lab_is_that_of_scikit_image():
    assert abs(to_lab(EVERY) - (rgb2lab(EVERY) * SCALE + SHIFT)).max() < 0.501


def test_rgb_is_that_of_scikit_image():
    lab = to_lab(EVERY)
    assert abs(from_lab(lab) - 255 * lab2rgb((lab - SHIFT) / SCALE)).max() < 0.501


def test_there_and_back_is_near():
    apart = abs(from_lab(to_lab(EVERY)).astype(int) - EVERY)
    assert apart.mean() < 1
    grey = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    assert abs(from_lab(to_lab(grey)).astype(int) - grey).max() <= 1
    assert (to_lab(grey)[..., 1:] == 128).all()


def test_colours_beyond_srgb_are_clipped():
    lab = np.array([[[255, 255, 0], [0, 0, 0], [128, 0, 255]]], np.uint8)
    assert from_lab(lab).dtype == np.uint8
    assert from_lab(lab)[0, 2].tolist()[::2] == [0, 0]  # a green that has no red and no blue


@pytest.mark.parametrize("strip", [1, 50, 10_000])
def test_strips_change_nothing(monkeypatch, strip):
    whole, back = to_lab(EVERY), from_lab(to_lab(EVERY))
    monkeypatch.setattr(colours, "STRIP", strip)
    assert np.array_equal(to_lab(EVERY), whole) and np.array_equal(from_lab(whole), back)
