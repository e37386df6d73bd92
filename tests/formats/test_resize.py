"""Resizing of every type, against uint8 and against one band at a time."""

import numpy as np
import pytest

from twofold.formats import images
from twofold.formats.contract import DTYPES


def smooth(dtype, channels, low, high):
    y, x, c = np.mgrid[:40, :56, :channels]
    waves = np.sin(x / 7 + c) * np.cos(y / 5 + c)
    values = (waves - waves.min()) / (waves.max() - waves.min()) * (high - low) + low
    return (values if np.dtype(dtype).kind == "f" else values.round()).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("size", [(17, 23), (80, 100), (40, 1)])
def test_every_type_is_resized_as_float64_is(dtype, channels, size):
    limits = (-5, 5) if np.dtype(dtype).kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    pixels = smooth(dtype, channels, *limits)
    twin = images.resize(pixels.astype(np.float64), *size)
    made = images.resize(pixels, *size)
    assert made.dtype == dtype and made.shape == (*size, channels) and made.flags.c_contiguous
    step = (
        2**-8 if dtype == "float16" else 1e-5 if dtype == "float32" else 1.01
    )  # two passes, a level each for uint8
    assert np.abs(made - twin).max() <= (2 if dtype == "uint8" else step)
    assert (made.min((0, 1)) >= pixels.min((0, 1))).all() and (made.max((0, 1)) <= pixels.max((0, 1))).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nearest_takes_the_same_pixels_for_every_type(values, dtype):
    places = np.arange(13 * 19, dtype=np.uint8).reshape(13, 19, 1)
    pixels = values(dtype, (13, 19, 3))
    for size in ((5, 7), (30, 41), (13, 40)):
        chosen = images.resize(places, *size, nearest=True)[..., 0]
        expected = pixels.reshape(-1, 3)[chosen]
        assert np.array_equal(images.resize(pixels, *size, nearest=True), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("nearest", [False, True])
def test_arrays_in_any_order_and_read_only(values, dtype, nearest):
    plain = values(dtype, (12, 17, 3))
    turned = np.asfortranarray(plain[::-1])[::-1]
    turned.flags.writeable = False
    expected = images.resize(plain, 7, 9, nearest)
    assert np.array_equal(images.resize(turned, 7, 9, nearest), expected)


def test_the_same_size_is_the_same_array(values):
    pixels = values("uint16", (5, 6, 3))
    assert images.resize(pixels, 5, 6) is pixels
