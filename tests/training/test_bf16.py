"""A run in bf16 goes the way of one in float32."""

import pytest
import torch

from twofold.formats.images import to_float
from twofold.methods.base import Batch
from twofold.methods.cyclegan import CycleGAN
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.seasons.landscape import draw
from twofold.training.trainer import Trainer

STEPS, WINDOW, SIZE = 200, 50, 32
BAND = 0.15
"""How far the mean of a loss over a window may be from float32's, as a share of it: 0.06 when this was written."""


def curves(precision):
    """The means over each window of every loss, after the same start on the same pictures."""
    torch.manual_seed(0)
    generators = [ResnetGenerator(width=8, blocks=2) for _ in "ab"]
    method = CycleGAN(*generators, *[PatchDiscriminator(width=8, layers=2) for _ in "ab"])
    for network in method.networks().values():
        initialise(network)
    trainer = Trainer(method, precision=precision, channels_last=True, fused=True)
    pictures = [[to_float(torch.tensor(x).permute(2, 0, 1)) for x in draw(k, SIZE)] for k in range(40)]
    summers, winters = ([pair[side] for pair in pictures] for side in (0, 1))
    reports = []
    for step in range(STEPS):
        trainer.step(Batch(summers[step % 20][None], winters[20 + step % 20][None]), 2e-4)
        if (step + 1) % WINDOW == 0:
            reports.append(trainer.sums.report())
    return reports


@pytest.mark.slow
def test_two_hundred_steps_stay_near_float32s_losses():
    exact, rough = curves("float32"), curves("bf16")
    assert exact[-1]["cycle_a"] < 0.8 * exact[0]["cycle_a"]  # something is learned
    assert exact != rough
    for window, other in zip(exact, rough, strict=True):
        far = {name: abs(other[name] / value - 1) for name, value in window.items()}
        assert max(far.values()) < BAND, far
