"""What survives of a source, and where it hides."""

import numpy as np
import pytest
import scipy.ndimage
from torch import nn

from twofold.metrics.structure import correlation, cycle, edges, luminance, survival
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.translation.header import Header
from twofold.translation.translator import Translator


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def picture(rng, side=24, channels=3):
    return rng.integers(0, 256, (side, side, channels), dtype=np.uint8)


def test_luminance_and_its_correlation(rng):
    x = picture(rng)
    r, g, b = (x[..., c].astype(float) for c in range(3))
    assert np.allclose(luminance(x), 0.299 * r + 0.587 * g + 0.114 * b)
    assert np.allclose(luminance(x[..., :2]), (r + g) / 2)
    assert correlation(r, b) == pytest.approx(np.corrcoef(r.ravel(), b.ravel())[0, 1])
    assert correlation(r, np.ones_like(r)) == 0


def test_edges_are_sobels(rng):
    luma = luminance(picture(rng))
    across, down = scipy.ndimage.sobel(luma, 1), scipy.ndimage.sobel(luma, 0)
    assert np.allclose(edges(luma), np.hypot(across, down)[1:-1, 1:-1])


def test_what_survives(rng):
    x = picture(rng)
    assert survival(x, x) == pytest.approx((1, 1))
    assert survival(x, 255 - x) == pytest.approx((-1, 1))  # inverted colours keep their edges
    luma, edge = survival(x, picture(rng))
    assert abs(luma) < 0.2 and abs(edge) < 0.2


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
    assert found.plain == pytest.approx(0, abs=1e-4)
    assert found.bits <= 0.5
    assert found.jpeg < 2
    assert found.noise == pytest.approx(2 * (2 / np.pi) ** 0.5, rel=0.1)  # the mean of |noise|


def test_a_hidden_signal_is_found(rng):
    found = cycle(picture(rng), translator(Hide()), translator(Seek()), 0)
    assert found.plain < 0.01
    assert min(found.bits, found.jpeg, found.noise) > 30


def test_the_noise_is_the_same_each_time(rng):
    image, there, back = picture(rng), translator(Shift(0.1)), translator(Shift(-0.1))
    assert cycle(image, there, back, 3) == cycle(image, there, back, 3) != cycle(image, there, back, 4)
