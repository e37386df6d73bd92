"""Label maps in the network and back: exact for every class, and each other value becomes the nearest class."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from twofold.formats.contract import Contract, Labels
from twofold.formats.values import class_of, from_network, to_network

CLASSES = (2, 3, 19, 255, 256)


def ids(count, dtype, seed=0):
    """A contract of so many ids, with gaps where the type has room."""
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    values = np.sort(
        rng.choice(int(limits.max) - int(limits.min) + 1, count, replace=False) + int(limits.min)
    )
    labels = Labels(tuple((int(value),) for value in values))
    return Contract(dtype, 1, (float(values[0]),), (float(values[-1]),), "labels", labels)


def colours(count, seed=0):
    rng = np.random.default_rng(seed)
    packed = np.sort(rng.choice(2**24, count, replace=False))
    rows = tuple((int(value >> 16), int(value >> 8 & 255), int(value & 255)) for value in packed)
    return Contract(found="labels", labels=Labels(rows))


def onehot(contract):
    assert contract.labels
    labels = Labels(contract.labels.values, onehot=True)
    return Contract(contract.dtype, contract.channels, contract.low, contract.high, "labels", labels)


def every_class(contract, shape=(16, 32)):
    """A label map (C, H, W) in which each class occurs, and the class of each pixel."""
    classes = np.random.default_rng(1).permutation(
        np.arange(shape[0] * shape[1]) % len(contract.labels.values)
    )
    values = np.array(contract.labels.values, contract.dtype)[classes.reshape(shape)]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))), classes.reshape(shape)


@pytest.mark.parametrize("count", CLASSES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32"])
@pytest.mark.parametrize("how", ["spread", "onehot"])
def test_ids_come_back_exactly(count, dtype, how):
    contract = ids(count, dtype) if how == "spread" else onehot(ids(count, dtype))
    pixels, classes = every_class(contract)
    values = to_network(pixels, contract)
    assert values.dtype == torch.float32 and values.shape == (contract.network_channels, *classes.shape)
    assert values.min() == -1 and values.max() == 1
    if how == "spread":
        assert np.allclose(values[0], classes * 2 / (count - 1) - 1, atol=1e-6)
    else:
        assert np.array_equal((values == 1).numpy(), np.arange(count)[:, None, None] == classes)
        assert (values.sum(0) == 2 - count).all()
    back = from_network(values, contract)
    assert back.dtype == pixels.dtype and torch.equal(back.to(torch.int64), pixels.to(torch.int64))


@pytest.mark.parametrize("count", CLASSES)
@pytest.mark.parametrize("how", ["colours", "onehot"])
def test_colours_come_back_exactly(count, how):
    contract = colours(count) if how == "colours" else onehot(colours(count))
    pixels, classes = every_class(contract)
    assert np.array_equal(class_of(pixels, contract.labels).numpy(), classes)
    values = to_network(pixels, contract)
    assert values.shape[0] == contract.network_channels
    if how == "colours":
        assert torch.equal(values, pixels / 127.5 - 1)
    assert torch.equal(from_network(values, contract), pixels)


@pytest.mark.parametrize("contract", [ids(7, "uint8"), ids(40, "uint16"), colours(9), colours(256)])
def test_a_batch_is_its_images(contract):
    pixels = every_class(contract)[0].numpy()
    batch = torch.from_numpy(np.stack([pixels, pixels[..., ::-1]]))
    for each in (contract, onehot(contract)):
        values = to_network(batch, each)
        assert torch.equal(values[1], to_network(batch[1], each))
        assert torch.equal(from_network(values, each), batch)


@pytest.mark.parametrize("contract", [ids(6, "uint8"), ids(6, "uint16"), ids(5, "int16"), colours(9)])
def test_other_values_become_the_nearest_class_the_first_of_equally_near_ones(contract):
    limits = np.iinfo(contract.dtype)
    rng = np.random.default_rng(3)
    shape = (contract.channels, 24, 24)
    pixels = rng.integers(limits.min, limits.max + 1, shape).astype(contract.dtype)
    values = contract.labels.values
    if contract.channels == 1:  # the middle between two ids, where they have one
        pixels[0, 0, : len(values) - 1] = [(a + b) // 2 for (a,), (b,) in pairwise(values)]
    found = class_of(torch.from_numpy(pixels), contract.labels)
    for y in range(24):
        for x in range(24):
            far = [
                sum((int(p) - v) ** 2 for p, v in zip(pixels[:, y, x], value, strict=True))
                for value in values
            ]
            assert found[y, x] == far.index(min(far))


def test_a_tie_goes_to_the_lower_class():
    labels = Labels(((10,), (20,), (21,)))
    assert class_of(torch.tensor([[[15, 16, 0, 255]]]), labels).tolist() == [[0, 1, 0, 2]]
    labels = Labels(((10, 0, 0), (20, 0, 0)))
    pixels = torch.tensor([[15, 16], [0, 0], [0, 0]], dtype=torch.uint8)[:, None]
    assert class_of(pixels, labels).tolist() == [[0, 1]]


def test_the_networks_values_snap_to_the_nearest_class():
    contract = Contract("uint16", 1, (3.0,), (900.0,), "labels", Labels(((3,), (40,), (900,))))
    values = torch.tensor([[[-1.5, -1, -0.51, -0.49, 0, 0.49, 0.51, 1, 7]]])
    assert from_network(values, contract).to(torch.int64).tolist() == [[[3, 3, 3, 40, 40, 40, 900, 900, 900]]]
    chosen = onehot(contract)
    scores = torch.tensor([[[-0.9, 0.1]], [[-0.8, 0.0]], [[-0.95, 0.05]]])
    assert from_network(scores, chosen).to(torch.int64).tolist() == [[[40, 3]]]


def test_large_colour_maps_are_searched_in_parts_and_under_autocast():
    contract = colours(256)
    pixels = torch.randint(
        0, 256, (3, 300, 301), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    found = class_of(pixels, contract.labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(class_of(pixels, contract.labels), found)
    colour = torch.tensor(contract.labels.values)
    for y, x in ((0, 0), (299, 300), (150, 7), (217, 218)):
        distance = (pixels[:, y, x].long() - colour).square().sum(1)
        assert found[y, x] == distance.argmin()


def test_one_class_is_a_constant():
    contract = Contract("uint8", 1, (7.0,), (8.0,), "labels", Labels(((7,),)))
    pixels = torch.full((1, 2, 2), 7, dtype=torch.uint8)
    assert torch.equal(to_network(pixels, contract), torch.full((1, 2, 2), -1.0))
    assert torch.equal(from_network(torch.randn(1, 2, 2), contract), pixels)
