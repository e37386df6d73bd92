"""The learning rate against the original's, which is constant within an epoch where ours falls with each image."""

import json
import re
from pathlib import Path

import pytest

from twofold.training.schedule import schedule

FACTORS = json.loads((Path(__file__).parents[1] / "goldens" / "lr_linear.json").read_text())["factors"]


@pytest.mark.parametrize("options", FACTORS)
@pytest.mark.parametrize("images", [1, 7, 100])
def test_follows_the_original(options, images):
    constant, decay, first = (int(number) for number in re.findall(r"\d+", options))
    plan = schedule(1.0, constant, decay, images)
    step = 1 / (decay + 1) + 1e-9  # the original's fall from one epoch to the next
    for epoch, factor in enumerate(FACTORS[options], first):
        for image in range((epoch - 1) * images, epoch * images):
            assert abs(plan.rate(image) - factor) <= 2 * step, (epoch, image)
        assert abs(plan.rate(epoch * images) - factor) <= step, epoch
    assert plan.total == (constant + decay) * images


@pytest.mark.parametrize(("constant", "decay"), [(2, 3), (0, 1), (0.5, 0.25)])
def test_falls_to_zero_in_a_straight_line(constant, decay):
    plan = schedule(2e-4, constant, decay, 40)
    rates = [plan.rate(image) for image in range(plan.total + 1)]
    assert rates[: plan.constant + 1] == [2e-4] * (plan.constant + 1)
    falls = [
        before - after
        for before, after in zip(rates[plan.constant :], rates[plan.constant + 1 :], strict=False)
    ]
    assert falls == pytest.approx([2e-4 / plan.decay] * plan.decay)
    assert rates[-1] == 0
    assert plan.rate(plan.total + 5) == 0


def test_without_decay_it_stays():
    plan = schedule(1e-3, 1.5, 0, 10)
    assert plan.total == 15
    assert {plan.rate(image) for image in range(15)} == {1e-3}
