"""The learning rate against the original's, which is constant within an epoch where ours falls with each image."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.optim import lr_scheduler

from twofold.errors import UsageError
from twofold.training.schedule import schedule
from twofold.training.settings import TrainingSettings

FACTORS = json.loads((Path(__file__).parents[1] / "goldens" / "lr_linear.json").read_text())["factors"]


def length(constant, decay, **others):
    return TrainingSettings(epochs=constant, decay_epochs=decay, **others)


@pytest.mark.parametrize("options", FACTORS)
@pytest.mark.parametrize("images", [1, 7, 100])
def test_follows_the_original(options, images):
    constant, decay, first = (int(number) for number in re.findall(r"\d+", options))
    plan = schedule(1.0, length(constant, decay), images)
    step = 1 / (decay + 1) + 1e-9  # the original's fall from one epoch to the next
    for epoch, factor in enumerate(FACTORS[options], first):
        for image in range((epoch - 1) * images, epoch * images):
            assert abs(plan.rate(image) - factor) <= 2 * step, (epoch, image)
        assert abs(plan.rate(epoch * images) - factor) <= step, epoch
    assert plan.total == (constant + decay) * images


@pytest.mark.parametrize(("constant", "decay"), [(2, 3), (0, 1), (0.5, 0.25)])
def test_falls_to_zero_in_a_straight_line(constant, decay):
    plan = schedule(2e-4, length(constant, decay), 40)
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
    plan = schedule(1e-3, length(1.5, 0), 10)
    assert plan.total == 15
    assert {plan.rate(image) for image in range(15)} == {1e-3}


CONSTANT, DECAY = 6, 14


def torchs(shape, optimizer):
    """torch's scheduler of the same shape, for steps of one image."""
    steps = range(CONSTANT, CONSTANT + DECAY, 4)
    stay = lr_scheduler.ConstantLR(optimizer, 1.0)
    fall = {
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, DECAY),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, DECAY),
    }
    match shape:
        case "constant":
            return stay
        case "step":
            return lr_scheduler.MultiStepLR(optimizer, [*steps], 0.3)
        case _:
            return lr_scheduler.SequentialLR(optimizer, [stay, fall[shape]()], [CONSTANT])


@pytest.mark.parametrize("warmup", [0, 1, 5])
@pytest.mark.parametrize("shape", ["linear", "cosine", "step", "constant"])
def test_against_torchs_schedulers(shape, warmup):
    steps = {"schedule": shape, "warmup": warmup, "step_epochs": 4, "step_factor": 0.3}
    plan = schedule(2e-3, length(CONSTANT, DECAY, **steps), 1)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    schedulers = [torchs(shape, optimizer)]
    if warmup > 1:
        schedulers.append(lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1))
    both = lr_scheduler.ChainedScheduler(schedulers, optimizer)
    for image in range(plan.total):
        assert plan.rate(image) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-15), image
        optimizer.step()
        both.step()


def test_step_without_a_constant_part_is_the_originals():
    """StepLR of the original's lr_policy step: a tenth every 50 epochs."""
    plan = schedule(1.0, length(50, 150, schedule="step"), 7)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = lr_scheduler.StepLR(optimizer, 50, 0.1)
    for epoch in range(200):
        assert (
            plan.rate(7 * epoch) == plan.rate(7 * epoch + 6) == pytest.approx(optimizer.param_groups[0]["lr"])
        )
        optimizer.step()
        theirs.step()


def test_in_words():
    assert (
        str(schedule(2e-4, length(20, 20), 100))
        == "0.0002 up to image 2,000, then linear to 0 at image 4,000"
    )
    assert str(schedule(2e-4, length(20, 0), 100)) == "0.0002 up to image 2,000"
    stepped = schedule(1e-3, length(1, 3, schedule="step", step_epochs=2, warmup=50), 100)
    assert str(stepped) == (
        "rising over 50 images to 0.001 up to image 100, then times 0.1 there and every 200 images, up to image 400"
    )


def test_a_warm_up_longer_than_the_run():
    with pytest.raises(UsageError, match="warmup 41 is longer than the run of 40 images"):
        schedule(1.0, length(2, 2, warmup=41), 10)
