"""Translators of small networks with seeded weights, for one contract or another."""

import numpy as np
import pytest
import torch

from twofold.formats.contract import Contract, Labels
from twofold.formats.scale import Geometry
from twofold.networks.layers import initialise
from twofold.networks.registry import describe
from twofold.networks.resnet_skips import resnet
from twofold.networks.unet import UnetGenerator
from twofold.translation.header import Header
from twofold.translation.translator import Translator

RGB, GREY = Contract(), Contract(channels=1)

CONTRACTS = {
    "grey to RGB": (GREY, RGB),
    "4 bands of 12 bits": (Contract("uint16", 4, (0.0,), (4095.0,), "bits"),) * 2,
    "own ranges": (
        Contract("uint8", 2, (10.0, 0.0), (200.0, 99.0), "settings"),
        Contract("int16", 1, (-1024.0,), (3071.0,)),
    ),
    "floats": (
        Contract("float32", 1, (-0.5,), (7.5,), "percentiles"),
        Contract("float32", 2, (0.0, -9.0), (1.0, 9.0)),
    ),
    "ids": (Contract(channels=1, found="labels", labels=Labels(((3,), (7,), (200,)))), RGB),
    "one-hot ids": (
        Contract(
            "uint16", 1, high=(999.0,), found="labels", labels=Labels(((3,), (7,), (999,)), onehot=True)
        ),
        RGB,
    ),
    "one-hot colours": (
        Contract(found="labels", labels=Labels(((0, 0, 0), (9, 200, 255), (255, 99, 0)), onehot=True)),
        RGB,
    ),
    "colours": (Contract(found="labels", labels=Labels(((0, 0, 0), (9, 200, 255), (255, 99, 0)))), GREY),
}


NETWORKS = {
    "resnet": lambda **channels: resnet(width=4, blocks=1, **channels),
    "cut": lambda **channels: resnet(width=4, blocks=1, antialias=True, upsample="blur", **channels),
    "skips": lambda **channels: resnet(width=4, blocks=1, skips=True, upsample="resize", **channels),
    "batch": lambda **channels: resnet(width=4, blocks=1, norm="batch", upsample="resize-zero", **channels),
    "unet": lambda **channels: UnetGenerator(width=2, depth=5, dropout=True, **channels),
    "encoder-decoder": lambda **channels: UnetGenerator(
        width=2, depth=5, skips=False, norm="instance-affine", **channels
    ),
}


def make(network="resnet", contracts=None, *, resize="none", load_size=40, **more):
    """A translator of format 2 in float32 on the CPU; `contracts` is a name in CONTRACTS or a pair."""
    source, target = CONTRACTS.get(contracts, contracts) if contracts else (RGB, RGB)
    ends = {"in_channels": source.network_channels, "out_channels": target.network_channels}
    if more.get("lab"):
        ends = {"in_channels": 1, "out_channels": 2}
    torch.manual_seed(0)
    generator = NETWORKS[network](**ends)
    initialise(generator, "kaiming")
    header = Header.of(describe(generator), "ab", source, target, Geometry(resize, load_size, 32), **more)
    return Translator.of(generator, header, device="cpu", noise=False)


@pytest.fixture(scope="session")
def made():
    """Makes a translator: made("unet", "grey to RGB", resize="shortest", load_size=40)."""
    return make


@pytest.fixture(scope="session")
def values():
    """Makes stored values: values(contract, height, width, seed)."""
    return random_values


def random_values(contract, height, width, seed=0):
    """Random stored values (height, width, C) of a contract."""
    rng = np.random.default_rng(seed)
    if contract.labels:
        known = np.array(contract.labels.values)
        return known[rng.integers(0, len(known), (height, width))].astype(contract.dtype)
    low, high = np.array(contract.low), np.array(contract.high)
    return (low + rng.random((height, width, contract.channels)) * (high - low)).astype(contract.dtype)
