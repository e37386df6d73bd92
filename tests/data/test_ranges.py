"""The range of a set of values, against numpy's percentiles of all its pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.data.ranges import (
    LEVELS,
    WEIGHTS,
    Summary,
    find_range,
    number,
    outside,
    percentiles,
    sentence,
    summarise,
)
from twofold.errors import UsageError
from twofold.formats.contract import Contract


def summary(arrays):
    rows = np.stack([summarise(each) for each in arrays]).astype(np.float64)
    return Summary(rows, np.array([each.shape[0] * each.shape[1] for each in arrays]))


def ct(i, size=300):
    """Air, tissue, and a little bone, in Hounsfield units."""
    rng = np.random.default_rng(i)
    image = rng.normal(40, 30, (size, size + 20 * i, 1))
    image[: size // 3] = -1024
    image[size // 2 : size // 2 + 9, :20] = rng.normal(1500, 200, (9, 20, 1))
    return image.round().astype(np.int16)


def noise(i, size=400, dtype=np.float32):
    """Images of very different brightness; every tenth is far brighter."""
    rng = np.random.default_rng(i)
    scale = 30 if i % 10 == 9 else 1 + 0.1 * i
    return (scale * rng.standard_normal((size, size, 1))).astype(dtype)


def test_the_weights_are_those_of_all_values():
    assert np.isclose(WEIGHTS.sum(), 1) and (WEIGHTS > 0).all() and len(WEIGHTS) == len(LEVELS)
    assert (np.diff(LEVELS) > 0).all() and LEVELS[0] < 2e-5 and LEVELS[-1] > 1 - 2e-5


@pytest.mark.parametrize("kind", [ct, noise])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_percentiles_are_those_of_all_pixels_together(kind, count):
    arrays = [kind(i) for i in range(count)]
    levels = [0.05, 1, 25, 50, 75, 99, 99.95]
    twin = np.percentile(np.concatenate([each.ravel() for each in arrays]), levels)
    found = percentiles(summary(arrays), levels)
    everything = np.concatenate([each.ravel() for each in arrays])
    # as shares of the values: where the found percentiles lie in the whole distribution
    below = np.array([(everything < x).mean() for x in found])
    upto = np.array([(everything <= x).mean() for x in found])
    error = np.maximum(0, np.maximum(below - np.array(levels) / 100, np.array(levels) / 100 - upto))
    assert (error < np.array([2e-4, 1e-3, 2e-2, 2e-2, 2e-2, 1e-3, 2e-4])).all()
    assert (np.abs(found - twin) <= 0.02 * (twin[-1] - twin[0])).all()


def test_a_file_counts_by_its_pixels():
    large, tiny = noise(0, 200), noise(9, 10)
    alone, both = (percentiles(summary(x), [0.05, 50, 99.95]) for x in ([large], [large, tiny]))
    assert np.allclose(alone[1], both[1], atol=0.02) and both[2] > alone[2]


def test_least_and_greatest_are_exact_though_few_pixels_are_sampled():
    image = np.zeros((1000, 1024, 2), np.uint16)
    image[517, 333] = 4000, 7
    rows = summarise(image)
    assert rows.dtype == np.uint16 and rows[:, :2].tolist() == [[0, 4000], [0, 7]]


@given(width=st.integers(1, 900), height=st.integers(1, 900))
def test_every_column_is_sampled(width, height):
    columns = np.broadcast_to(np.arange(width, dtype=np.float32)[None, :, None], (height, width, 1))
    found = percentiles(summary([columns]), [25, 75])
    assert np.abs(found - np.percentile(columns, [25, 75])).max() <= 0.03 * width + 1


@pytest.mark.parametrize(
    ("greatest", "high"),
    [(255, 255), (256, 1023), (1023, 1023), (1024, 4095), (4096, 16383), (16384, 65535), (65535, 65535)],
)
def test_unsigned_values_have_the_least_depth_that_holds_them(greatest, high):
    image = np.array([[[3], [greatest]]], np.uint16)
    found = find_range(Contract("uint16", 1, (0,), (65535,)), None, summary([image]))
    assert (found.low, found.high, found.found) == ((0.0,), (float(high),), "bits")


@pytest.mark.parametrize(("greatest", "bits"), [(65536, 20), (2**20, 24), (2**24, 32), (2**32 - 1, 32)])
def test_thirty_two_bits(greatest, bits):
    image = np.array([[[3], [greatest]]], np.uint32)
    found = find_range(Contract("uint32", 1, (0,), (2.0**32 - 1,)), None, summary([image]))
    assert found.high == (2.0**bits - 1,)


def test_signed_and_floating_point_values_lose_their_extremes():
    arrays = [ct(i) for i in range(4)]
    found = find_range(Contract("int16", 1, (-32768,), (32767,)), None, summary(arrays))
    everything = np.concatenate([each.ravel() for each in arrays])
    assert found.low == (-1024,) and float(found.high[0]).is_integer() and found.found == "percentiles"
    assert abs((everything > found.high[0]).mean() - 0.0005) < 1e-4
    assert find_range(Contract("float32", 1, (0,), (1,)), None, summary([noise(0)])).span == pytest.approx(
        6.6, 0.05
    )


def test_each_channel_may_have_its_own_range():
    rng = np.random.default_rng(0)
    image = rng.normal([0, 100, -5], [1, 20, 0.1], (300, 300, 3)).astype(np.float32)
    found = find_range(Contract("float32", 3, (0,), (1,)), "per-channel", summary([image]))
    assert np.allclose(found.low, np.percentile(image, 0.05, (0, 1)), rtol=0.03)
    assert np.allclose(found.high, np.percentile(image, 99.95, (0, 1)), rtol=0.03)
    deep = np.stack([np.arange(9), 500 * np.arange(9)], 1)[None].astype(np.uint16)
    found = find_range(Contract("uint16", 2, (0,), (65535,)), "per-channel", summary([deep]))
    assert (found.low, found.high) == ((0, 0), (255, 4095))


def test_sets_without_a_range_are_refused():
    flat = np.full((9, 9, 1), 7, np.uint16)
    with pytest.raises(UsageError, match="every value of the training set is 7, so no range"):
        find_range(Contract("uint16", 1, (0,), (65535,)), None, summary([flat]))
    spark = np.zeros((300, 300, 1), np.float32)
    spark[5, 5] = 1.5
    with pytest.raises(
        UsageError, match=r"nearly every value of the training set is 0 \(all lie in 0 to 1\.5\)"
    ):
        find_range(Contract("float32", 1, (0,), (1,)), None, summary([spark]))
    both = np.stack([flat[..., 0], np.arange(81).reshape(9, 9)], 2).astype(np.uint16)
    with pytest.raises(UsageError, match="every value of channel 0 is 7"):
        find_range(Contract("uint16", 2, (0,), (65535,)), "per-channel", summary([both]))


def test_the_share_outside_the_range():
    arrays = [noise(i) for i in (0, 9)]
    contract = Contract("float32", 1, (-2,), (2.5,), "settings")
    twin = [((each < -2) | (each > 2.5)).mean() for each in arrays]
    assert np.allclose(outside(summary(arrays), contract), twin, rtol=0.1)
    apart = np.concatenate(arrays, 2)  # the channel where it is greatest
    assert np.allclose(outside(summary([apart]), Contract("float32", 2, (-2,), (2.5,))), twin[1], rtol=0.1)


def test_in_words():
    image = np.linspace(87, 3912, 100).reshape(10, 10, 1).astype(np.uint16)
    contract = find_range(Contract("uint16", 1, (0,), (65535,)), None, summary([image]))
    assert (
        sentence(contract, summary([image]))
        == "uint16, 1 channel, values 87…3,912 of 0…4,095 (12 bits); 0.0 % clipped"
    )
    given = Contract("uint16", 1, (0,), (2000,), "settings")
    assert sentence(given, summary([image])).endswith("of 0…2,000 (as set); 50.0 % clipped")
    assert [number(x) for x in (0.0, -1024.0, 3071.5, 1 / 3, 1e-9)] == [
        "0",
        "-1,024",
        "3072",
        "0.3333",
        "1e-09",
    ]
