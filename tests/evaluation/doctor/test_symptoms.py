"""Each illness of the logs made on purpose, and beside it the healthy case in which nothing may be said."""

import math

import numpy as np
import pytest

from twofold.evaluation.doctor import symptoms

SEED = 7


def noisy(level, count=40, spread=0.1):
    """A loss that wanders around a level, as those of a run do."""
    return (level * np.random.default_rng(SEED).lognormal(0, spread, count)).tolist()


# ---- the discriminator has won


@pytest.mark.parametrize(("loss", "sure"), [("lsgan", 1.0), ("bce", 4.0), ("hinge", 1.2)])
def test_a_discriminator_that_has_won(loss, sure):
    disc = noisy(0.02 * symptoms.UNDECIDED[loss])
    found = symptoms.discriminator_won(disc, noisy(3 * sure), loss, 3.0, "B")
    assert found is not None
    assert (found.name, found.severity) == ("discriminator of B won", "trouble")
    assert f"{symptoms.UNDECIDED[loss]:.2f}" in found.sentence and "--adversarial.r1 1" in found.advice


def test_a_discriminator_that_is_winning():
    found = symptoms.discriminator_won(noisy(0.035), noisy(0.85), "lsgan", 1.0, "A")
    assert found is not None and (found.name, found.severity) == ("discriminator of A winning", "watch")


@pytest.mark.parametrize(
    ("disc", "generator", "loss", "weight"),
    [
        (noisy(0.2), noisy(0.3), "lsgan", 1.0),  # how the demo ends
        (noisy(0.01), noisy(0.9) + noisy(0.4), "lsgan", 1.0),  # it still learns
        (
            noisy(0.01),
            noisy(0.3),
            "lsgan",
            1.0,
        ),  # the discriminator is sure, and still takes translations for real
        (noisy(0.01, 6), noisy(1.0, 6), "lsgan", 1.0),  # too early
        (noisy(0.01), noisy(2.0), "wgan", 1.0),  # no scale to judge by
        (noisy(0.01), noisy(0.0), "lsgan", 0.0),  # no adversarial term at all
        ([math.nan] * 40, [math.nan] * 40, "lsgan", 1.0),
        (noisy(0.3), noisy(1.1), "bce", 1.0),
    ],
)
def test_a_discriminator_that_has_not_won(disc, generator, loss, weight):
    assert symptoms.discriminator_won(disc, generator, loss, weight, "A") is None


# ---- losses that are no numbers, leap or rise


def test_losses_that_are_no_numbers():
    found = symptoms.not_finite({"gan_ab": [1.0, math.inf], "cycle_a": [1.0, 1.0]}, {})
    assert found is not None and found.sentence.startswith("gan_ab stopped being finite:")
    found = symptoms.not_finite({"gan_ab": [1.0]}, {1200: ["cycle_a", "idt_b"]})
    assert found is not None and "cycle_a, idt_b" in found.sentence and "image 1,200" in found.sentence
    found = symptoms.not_finite(
        {"gan_ab": [1.0, 2.5e15], "gan_ba": [9e9], "disc_a": [-3e7], "idt_a": [1.0]}, {}
    )
    assert found is not None and found.sentence.startswith("gan_ab, gan_ba, disc_a rose above 1,000,000:")
    assert found.severity == "trouble" and "--machine.precision float32" in found.advice


def test_numbers_and_gaps_are_no_trouble():
    assert symptoms.not_finite({"gan_ab": [1.0, math.nan, 0.0], "perceptual_a": []}, {}) is None


def test_a_loss_that_leaps():
    losses = {"gan_ab": noisy(0.3), "cycle_a": noisy(0.2)}
    losses["cycle_a"][25] = 9.0
    found = symptoms.spikes(losses, {"gan_ab": 1.0})
    assert found is not None and found.severity == "watch"
    assert found.sentence.startswith("cycle_a jumps to") and "--lr " in found.advice


def test_a_loss_that_rose_for_good():
    found = symptoms.spikes({"cycle_b": noisy(0.2, 60) + noisy(2.0, 25), "l1": noisy(1)}, {})
    assert found is not None and found.severity == "trouble"
    assert found.sentence.startswith("cycle_b has risen to 9 times")


@pytest.mark.parametrize(
    ("values", "floor"),
    [
        (noisy(0.3), 0.0),
        ([9.0, 5.0, 3.0, *noisy(0.3)], 0.0),  # the start is wild
        ([*noisy(0.004), 0.2, *noisy(0.004)], 1.0),  # a discriminator that nearly won stumbles
        ([0.2, 30.0, 0.2, 0.2], 0.0),  # too early
        (np.geomspace(0.4, 0.004, 40).tolist(), 0.0),  # high once, and falling ever since
        ([0.0] * 20, 0.0),
        ([math.nan] * 20, 0.0),
        ([], 0.0),
    ],
)
def test_losses_that_are_steady_enough(values, floor):
    assert symptoms.spikes({"disc_a": values}, {"disc_a": floor}) is None


# ---- waiting for images


def test_a_training_that_waits_for_images():
    found = symptoms.slow_loading([0.0] * 10 + [0.7] * 10, cached=False)
    assert found is not None and found.severity == "trouble" and found.sentence.startswith("70% of the time")
    assert "--data.workers" in found.advice and "--cache" in found.advice
    found = symptoms.slow_loading([0.3] * 10, cached=True)
    assert found is not None and found.severity == "watch" and "--cache" not in found.advice


@pytest.mark.parametrize("waiting", [[0.0002] * 40, [0.9, *[0.01] * 30], [0.9] * 3, [math.nan] * 20, []])
def test_a_training_that_does_not_wait(waiting):
    assert symptoms.slow_loading(waiting, cached=True) is None
