"""Tiles and windows equal the whole translation."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from twofold import hardware
from twofold.errors import TwofoldError, UsageError
from twofold.formats.contract import Contract
from twofold.translation.tiles import Tiling

NETWORKS = {
    "instance": lambda resnet, unet: resnet(width=6, blocks=2),
    "antialias": lambda resnet, unet: resnet(width=4, blocks=2, antialias=True, upsample="blur"),
    "resize": lambda resnet, unet: resnet(width=4, blocks=2, upsample="resize", norm="instance-affine", halvings=3),
    "no norm": lambda resnet, unet: resnet(width=4, blocks=2, upsample="resize-zero", norm="none", halvings=1),
    "skips": lambda resnet, unet: resnet(width=4, blocks=2, skips=True),
    "skips to grey": lambda resnet, unet: resnet(width=4, blocks=1, skips=True, out_channels=1),
    "unet": lambda resnet, unet: unet(),
    "deep unet": lambda resnet, unet: unet(depth=7, norm="instance"),
    "no norm unet": lambda resnet, unet: unet(depth=7, norm="none"),
    "encoder-decoder": lambda resnet, unet: unet(skips=False, upsample="blur"),
}


@pytest.fixture(params=NETWORKS)
def network(request, resnet, unet):
    return NETWORKS[request.param](resnet, unet)


def picture(height, width, channels=3, seed=0):
    """Bright above, dark below, with noise: parts differ from the whole."""
    noise = np.random.default_rng(seed).random((height, width, channels))
    return ((noise + np.linspace(3, 0, height)[:, None, None]) * 63).astype(np.uint8)


def difference(one, other):
    assert one.shape == other.shape and one.dtype == other.dtype
    return np.abs(one.astype(float) - other).max()


def test_tiles_with_exact_statistics_equal_the_whole(translator, network):
    made, image = translator(network), picture(210, 131)
    whole = made.array(image)
    for folder in (None, 1):
        made.tiling = Tiling(32, memory=None if folder is None else 2**27, statistics="exact")
        assert difference(made.array(image), whole) <= 1


def test_windows_equal_the_crop_of_the_whole(translator, network):
    made, image = translator(network), picture(150, 203)
    made.tiling = Tiling(64, statistics="exact")
    whole, statistics = made.array(image, "native"), made.statistics(image)
    random = np.random.default_rng(1)
    for _ in range(20):
        (x, right), (y, bottom) = (sorted(random.choice(side + 1, 2, replace=False)) for side in (203, 150))
        part = made.window(image, x, y, right - x, bottom - y, statistics=statistics)
        assert difference(part, whole[y:bottom, x:right]) <= 1
