"""Cycles through damaged translations: honest ones survive, hidden signals do not."""

import numpy as np
import pytest
import torch
from torch import nn

from twofold.evaluation.cycle import jpeg, translator_cycle
from twofold.evaluation.measures import damages
from twofold.formats import images
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.translation.header import Header
from twofold.translation.translator import Translator


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def picture(rng, side=24, channels=3):
    return rng.integers(0, 256, (side, side, channels), dtype=np.uint8)


def cycle(image, there, back, number):
    return translator_cycle(image, there, back, [*damages().values()], number)


class Shift(nn.Module):
    """Adds a constant to an image."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x + self.by


class Hide(nn.Module):
    """A flat grey picture with the source in its last digits."""

    def forward(self, x):
        return x * 0.002


class Seek(nn.Module):
    def forward(self, x):
        return x / 0.002


def translator(module):
    """A translator that does what `module` does."""
    network = ResnetGenerator(width=2, blocks=1)
    made = Translator(network, Header(describe(network), "ab", 16))
    network.forward = module.forward
    return made


def test_an_honest_cycle_survives_everything(rng):
    image = np.full((20, 20, 3), 128, np.uint8)
    image[5:12] = 90
    found = cycle(image, translator(Shift(0.1)), translator(Shift(-0.1)), 0)
    clean, bits, stored, noisy = (each.error for each in found)
    assert clean == pytest.approx(0, abs=1e-4)
    assert bits <= 0.5
    assert stored < 2
    assert noisy == pytest.approx(2 * (2 / np.pi) ** 0.5, rel=0.1)  # the mean of |noise|
    for each in found:  # the way back is a shift, so the error is the damage
        assert each.error == pytest.approx(each.damage, abs=1e-3)


def test_a_hidden_signal_is_found(rng):
    clean, *damaged = cycle(picture(rng), translator(Hide()), translator(Seek()), 0)
    assert clean.error < 0.01
    assert all(each.error > 30 and each.damage < 3 for each in damaged)


def test_the_noise_is_the_same_each_time(rng):
    image, there, back = picture(rng), translator(Shift(0.1)), translator(Shift(-0.1))
    assert cycle(image, there, back, 3) == cycle(image, there, back, 3) != cycle(image, there, back, 4)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg_keeps_the_channels_of_a_smooth_image(channels):
    ramp = np.linspace(-1, 1, 32, dtype=np.float32)
    image = torch.from_numpy(np.broadcast_to(ramp, (1, channels, 32, 32)).copy())
    stored = jpeg(90, "4:4:4")(image, 0)
    assert stored.shape == image.shape and not torch.equal(stored, images.to_float(images.to_uint8(image)))
    assert float((stored - image).abs().mean()) < 0.02
