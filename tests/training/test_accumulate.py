"""Accumulated gradients: equal to a larger batch where the generators learn first, and to the mean elsewhere."""

import pytest
import torch

from twofold.config import compose
from twofold.errors import UsageError
from twofold.methods.adversarial import AdversarialObjective
from twofold.methods.base import Batch
from twofold.methods.cut import CUT
from twofold.methods.pix2pix import Pix2Pix
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.runs import Run, read_lines
from twofold.training import machine
from twofold.training.trainer import Trainer

STEPS = 3
ALL = 10**6
"""Patches: every place of a feature map, in an order that is drawn and does not matter."""


def batch(seed, count):
    draws = torch.Generator().manual_seed(seed)
    return Batch(*(torch.rand(count, 3, 16, 16, generator=draws, dtype=torch.float64) * 2 - 1 for _ in "ab"))


def parts(whole):
    return [Batch(a[None], b[None]) for a, b in zip(whole.a, whole.b, strict=True)]


def seeded(make, **switches):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = make(**switches)
        for network in method.networks().values():
            initialise(network, "normal", 0.2)
    return method.double()


def pix2pix(**switches):
    return Pix2Pix(ResnetGenerator(width=2, blocks=1), PatchDiscriminator(6, width=2, layers=1), **switches)


def cut(**switches):
    networks = ResnetGenerator(width=2, blocks=1), PatchDiscriminator(width=2, layers=1)
    return CUT(*networks, layers=(0, 4, 8), patches=ALL, head_width=6, **switches)


def distance(one, other):
    pairs = zip(one.method.parameters(), other.method.parameters(), strict=True)
    return max((x - y).abs().max().item() for x, y in pairs)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clip": 0.5, "weight_decay": 0.1, "ema": 6.0},
        {"fused": True, "channels_last": True, "disc_lr": 2.0},
    ],
)
def test_four_batches_of_one_are_a_batch_of_four(tiny, settings):
    large = Trainer(tiny(replay=0).double(), **settings)
    small = Trainer(tiny(replay=0).double(), accumulate=4, **settings)
    start = [p.detach().clone() for p in large.method.parameters()]
    for step in range(STEPS):
        whole = batch(step, 4)
        large.step(whole, 1e-2 / (step + 1))
        for place, part in enumerate(parts(whole), 1):
            assert (small.accumulated == 0) == (place == 1)
            small.step(part, 1e-2 / (step + 1) if place == 1 else 77.0)  # the first alone counts
    assert small.images == large.images == 4 * STEPS
    assert distance(large, small) < 1e-9
    moved = max((p - q).abs().max().item() for p, q in zip(large.method.parameters(), start, strict=True))
    assert moved > 1e-2
    assert small.sums.report() == pytest.approx(large.sums.report(), abs=1e-9)
    if settings.get("ema"):
        pairs = zip(large.averages["gen_ab"].parameters(), small.averages["gen_ab"].parameters(), strict=True)
        assert max((x - y).abs().max().item() for x, y in pairs) < 1e-9


def test_critic_steps_count_whole_steps(tiny):
    objective = AdversarialObjective("lsgan", critic_steps=2)
    large = Trainer(tiny(replay=0, adversarial=objective).double())
    small = Trainer(tiny(replay=0, adversarial=objective).double(), accumulate=2)
    for step in range(4):
        whole, before = batch(step, 2), large.method.gen_ab.enter.conv.weight.detach().clone()
        large.step(whole, 1e-2)
        for part in parts(whole):
            small.step(part, 1e-2)
        assert torch.equal(before, large.method.gen_ab.enter.conv.weight) == (step % 2 == 0)
        assert distance(large, small) < 1e-9


@pytest.mark.parametrize("make", [pix2pix, cut])
def test_a_discriminator_that_learns_first_is_that_before_the_step(make):
    """So the order of the batches in a step does not matter, and without an adversarial loss it is a larger batch."""
    one, other = (Trainer(seeded(make), accumulate=4) for _ in range(2))
    large, small = Trainer(seeded(make, gan=0)), Trainer(seeded(make, gan=0), accumulate=4)
    for step in range(STEPS):
        whole = batch(step, 4)
        large.step(whole, 1e-2)
        for trainer, order in ((one, 1), (other, -1), (small, 1)):
            for part in parts(whole)[::order]:
                trainer.step(part, 1e-2)
    assert distance(one, other) < 1e-9
    assert distance(large, small) < 1e-9


@pytest.mark.parametrize("fused", [False, True])
def test_clipping_scales_the_gradients_of_a_phase_together(tiny, fused):
    """torch's norm of what the optimizers see; shorter gradients stay as they are."""
    norms = []
    for clip in (None, 1e-3, 1e9):
        trainer, seen = Trainer(tiny(replay=0), clip=clip, fused=fused, channels_last=fused), []
        for phase, optimizer in trainer.optimizers.items():
            grads = trainer.params[phase]
            optimizer.register_step_pre_hook(
                lambda *_, grads=grads, seen=seen: seen.append(
                    torch.nn.utils.get_total_norm([p.grad for p in grads if p.grad is not None]).item()
                )
            )
        trainer.step(Batch(*(x.float() for x in batch(0, 1)[:2])), 1e-3)
        norms.append(seen)
    free, clipped, loose = norms
    assert clipped == pytest.approx([1e-3, 1e-3], rel=1e-3) and min(free) > 1e-2
    assert loose == pytest.approx(free)


# ---- runs


def test_a_step_may_not_be_longer_than_an_epoch(lab, tmp_path, command):
    ended = command(*lab.tokens(tmp_path / "run", training__accumulate=4))
    assert ended.code == 2
    assert ended.output.splitlines()[-1] == (
        "twofold: --training.accumulate 4 makes steps of 4 images, more than the 3 of an epoch; lower it"
    )
    assert not (tmp_path / "run").exists()


def test_a_run_of_no_whole_number_of_steps(lab, tmp_path, command):
    ended = command(*lab.tokens(tmp_path / "run", epochs=3, decay_epochs=0, training__accumulate=2))
    assert ended.code == 0
    assert "9 images are not a multiple of the 2 images of a step; the run ends at 10" in ended.output
    run = Run(tmp_path / "run")
    assert [images for images, _ in run.states()] == [6, 10]
    assert [row["images"] for row in read_lines(run.metrics)] == [4, 8, 10]


def test_extra_updates_are_refused(lab, tmp_path, command):
    ended = command(*lab.tokens(tmp_path / "run", training__accumulate=2, cyclegan__recent_updates=1))
    assert ended.code == 2 and ended.output.count("\n") == 1
    assert "training.accumulate averages one update" in ended.output
    assert not (tmp_path / "run").exists()


def test_no_graph_is_captured():
    cuda = torch.device("cuda")
    for accumulate, possible in ((1, True), (2, False)):
        config = compose({"a": "A", "b": "B", "training": {"accumulate": accumulate}})
        assert machine.can_capture(config, cuda) == possible
    wanted = compose({"a": "A", "b": "B", "training": {"accumulate": 2}, "machine": {"capture": True}})
    with pytest.raises(UsageError, match=r"machine\.capture true needs .*training\.accumulate 1"):
        machine.refuse_impossible(wanted, cuda)
