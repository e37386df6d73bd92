"""Stored pixels of every kind as 8-bit pictures."""

import numpy as np
import pytest

from twofold.formats.contract import Contract, Labels
from twofold.formats.display import View, shown_channels


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("uint16", 0, 4095),
        ("int16", -1024, 3071),
        ("float32", -0.5, 2),
        ("uint8", 10, 200),
        ("int32", -(2**31), 2**31 - 1),
    ],
)
def test_the_range_becomes_0_to_255(dtype, low, high):
    contract = Contract(dtype, 1, (float(low),), (float(high),))
    values = np.linspace(low, high, 256).reshape(16, 16, 1).astype(dtype)
    shown = View(contract).show(values)
    twin = [round(255 * (float(value) - low) / (high - low)) for value in values.flat]
    assert shown.dtype == np.uint8 and np.abs(shown.ravel().astype(int) - twin).max() <= 1
    assert shown.flat[0] == 0 and shown.flat[-1] == 255


def test_values_outside_are_clipped():
    contract = Contract("float32", 1, (0.0,), (1.0,))
    assert View(contract).show(np.array([[[-5.0], [0.5], [9.0]]], np.float32)).ravel().tolist() == [
        0,
        128,
        255,
    ]


def test_each_channel_has_its_own_range():
    contract = Contract("uint16", 3, (0.0, 100.0, 0.0), (1000.0, 200.0, 10.0))
    assert View(contract).show(np.array([[[500, 150, 10]]], np.uint16)).tolist() == [[[128, 128, 255]]]


def test_pictures_stay_as_they_are():
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert np.array_equal(View(Contract()).show(picture), picture)


@pytest.mark.parametrize(
    ("count", "chosen", "expected"),
    [
        *[(1, (), [0]), (2, (), [0]), (3, (), [0, 1, 2]), (4, (), [0, 1, 2]), (13, (), [0, 1, 2])],
        *[(13, (3, 2, 1), [3, 2, 1]), (13, (7,), [7]), (2, (1,), [1])],
    ],
)
def test_which_channels_are_shown(count, chosen, expected):
    assert shown_channels(count, chosen) == expected
    bands = np.broadcast_to(np.arange(count, dtype=np.uint16) * 10, (2, 2, count))
    shown = View(Contract("uint16", count, (0.0,), (255.0,)), chosen).show(bands)
    assert shown[0, 0].tolist() == [10 * channel for channel in expected]


def test_ids_get_their_palette_or_greys():
    ids = np.array([[[0], [2], [5], [9]]], np.uint8)
    values = ((0,), (2,), (5,))
    greys = View(Contract(labels=Labels(values), channels=1)).show(ids)
    assert greys.tolist() == [[[0], [128], [255], [255]]]  # an unknown id is shown as the nearest
    palette = tuple((i, 10 * i, 255 - i) for i in range(6))
    coloured = View(Contract(labels=Labels(values, palette=palette), channels=1)).show(ids)
    assert coloured[0].tolist() == [[0, 0, 255], [2, 20, 253], [5, 50, 250], [5, 50, 250]]
    short = View(Contract(labels=Labels(values, palette=palette[:3]), channels=1)).show(ids)
    assert short[0, 2].tolist() == [0, 0, 0]
    sixteen = View(Contract("uint16", labels=Labels(values), channels=1)).show(ids.astype(np.uint16))
    assert np.array_equal(sixteen, greys)


def test_colours_of_label_maps_stay():
    colours = np.array([[[255, 0, 0], [0, 9, 3]]], np.uint8)
    contract = Contract(labels=Labels(((0, 9, 3), (255, 0, 0))))
    assert np.array_equal(View(contract).show(colours), colours)
