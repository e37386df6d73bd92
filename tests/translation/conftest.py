import pytest
import torch

from twofold.formats.contract import Contract
from twofold.formats.scale import Geometry
from twofold.networks import resnet_skips
from twofold.networks.layers import Generator, initialise
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


class Identity(Generator):
    """Gives back its input, its channels repeated or left out as needed."""

    multiple_of, minimum, per_image = 4, 8, True

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.arguments = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "width": 1,
            "upsample": "resize",
        }
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return images[:, torch.arange(self.arguments["out_channels"]) % images.shape[1]]


@pytest.fixture
def by_contract(resnet):
    """A translator of format 2: by_contract(source, target, resize="shortest", load_size=36, identity=True)."""

    def make(
        source,
        target=None,
        *,
        resize="crop",
        load_size=36,
        size=32,
        identity=False,
        layout="hwc",
        **arguments,
    ):
        target = target or source
        channels = {"in_channels": source.network_channels, "out_channels": target.network_channels}
        network = Identity(**channels) if identity else resnet(**channels, **arguments)
        description = {"network": "identity", **channels} if identity else describe(network)
        geometry = Geometry(resize, load_size, size)
        return Translator(network, Header.of(description, "ab", source, target, geometry, layout=layout))

    return make


@pytest.fixture
def ct():
    """A contract like that of CT images."""
    return Contract("int16", 1, (-1024.0,), (3071.0,), "percentiles")


@pytest.fixture
def bands():
    """A contract of six bands of 12 bits."""
    return Contract("uint16", 6, (0.0,), (4095.0,), "bits")
