"""How much of a source survives a translation."""

import numpy as np
import pytest
import scipy.ndimage

from twofold.metrics.structure import correlation, edges, hides_source, luminance, structure_kept


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
    assert structure_kept(x, x) == pytest.approx((1, 1))
    assert structure_kept(x, 255 - x) == pytest.approx((-1, 1))  # inverted colours keep their edges
    luma, edge = structure_kept(x, picture(rng))
    assert abs(luma) < 0.2 and abs(edge) < 0.2


@pytest.mark.parametrize(
    ("clean", "damaged", "damage", "hides"),
    [
        (5.1, 22.9, 2.5, True),
        (7.8, 8.2, 1.5, False),  # the demo
        (7.8, 10.4, 1.5, False),  # more by less than twice the damage itself
        (0.5, 2.0, 1.5, False),  # nearly a copy
        (0.0, 2.5, 2.5, False),  # a copy
    ],
)
def test_a_hidden_signal_is_told_from_damage(clean, damaged, damage, hides):
    assert hides_source(clean, damaged, damage) == hides
