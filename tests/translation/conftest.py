import pytest
import torch

from twofold.networks import resnet_skips
from twofold.networks.layers import initialise
from twofold.networks.registry import describe
from twofold.networks.unet import UnetGenerator
from twofold.translation.header import Header
from twofold.translation.translator import Translator


@pytest.fixture
def resnet():
    """A small ResNet with seeded weights: resnet(in_channels=1)."""

    def make(seed=0, **arguments):
        torch.manual_seed(seed)
        network = resnet_skips.resnet(**{"width": 4, "blocks": 1, **arguments})
        initialise(network, "kaiming")
        return network

    return make


@pytest.fixture
def unet():
    def make(seed=0, **arguments):
        torch.manual_seed(seed)
        network = UnetGenerator(**{"width": 2, "depth": 5, **arguments})
        initialise(network, "normal", 0.3)
        return network

    return make


@pytest.fixture
def translator(resnet):
    """A translator of a small network: translator(size=32), translator(unet())."""

    def make(generator=None, size=None, direction="ab"):
        generator = generator or resnet()
        return Translator(
            generator, Header(describe(generator), direction, size, {"method": "cyclegan", "images": 7})
        )

    return make
