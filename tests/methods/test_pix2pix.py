"""The pix2pix step against the original implementation, over the golden steps, in float64; and its switches."""

from itertools import pairwise

import pytest
import torch

from twofold.exchange.original import discriminator_from_original, generator_of, original_keys
from twofold.methods.adversarial import BCE, AdversarialObjective
from twofold.methods.base import Batch
from twofold.methods.pix2pix import Pix2Pix
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.unet import UnetGenerator
from twofold.training.trainer import Trainer


@pytest.mark.parametrize(("channels_last", "fused"), [(False, False), (True, True)])
@pytest.mark.usefixtures("mode")
def test_golden_steps(golden, close, channels_last, fused):
    told = golden("pix2pix_vanilla_4steps")
    networks = {
        "gen_ab": generator_of(told.weights("init", "G")),
        "disc_b": discriminator_from_original(told.weights("init", "D")),
    }
    method = Pix2Pix(**networks, distance=told.options["lambda_L1"]).double()
    trainer = Trainer(method, channels_last=channels_last, fused=fused)
    for step, expected in enumerate(told.losses):
        batch = told.batch(step)
        if step == len(told.losses) - 1:
            with torch.no_grad():
                close(method.gen_ab(batch.a), told.tensors["last/fake_B"], "fake_B")
        trainer.step(batch, told.options["lr"])
        losses = trainer.sums.report()
        assert losses["gan_ab"] == pytest.approx(expected["G_GAN"], rel=1e-6), step
        assert losses["l1"] == pytest.approx(expected["G_L1"], rel=1e-6), step
        assert 2 * losses["disc_b"] == pytest.approx(expected["D_real"] + expected["D_fake"], rel=1e-6), step
    for theirs, ours in (("G", "gen_ab"), ("D", "disc_b")):
        network = method.get_submodule(ours)
        final, state = told.weights("final", theirs), network.state_dict()
        for key, name in original_keys(network).items():
            if "running" not in name and "tracked" not in name:  # moved once more, by the look
                close(state[name], final[key], f"{theirs} {key}")


def tiny(**switches):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conditional = switches.get("conditional", True)
        networks = (
            UnetGenerator(3, 3, width=2, depth=6, norm="instance", dropout=True),
            PatchDiscriminator(6 if conditional else 3, width=2, layers=1),
        )
        for network in networks:
            initialise(network, "normal", 0.2)
    return Pix2Pix(*networks, **switches)


def images(seed=5, size=64):
    draws = torch.Generator().manual_seed(seed)
    return Batch(*(torch.rand(1, 3, size, size, generator=draws) * 2 - 1 for _ in "ab"))


def first_losses(method, batch=None):
    torch.manual_seed(3)
    return {
        name: loss.item() for update in method.step(batch or images()) for name, loss in update.losses.items()
    }


@pytest.mark.parametrize(
    ("switches", "terms"),
    [
        ({}, {"disc_b", "gan_ab", "l1"}),
        ({"gan": 0}, {"l1"}),
        ({"distance": 0}, {"disc_b", "gan_ab"}),
        ({"norm": "l2"}, {"disc_b", "gan_ab", "l2"}),
        ({"conditional": False, "adversarial": AdversarialObjective("hinge")}, {"disc_b", "gan_ab", "l1"}),
    ],
)
def test_switches_leave_out_their_terms(switches, terms):
    assert first_losses(tiny(**switches)).keys() == terms
    Trainer(tiny(**switches)).step(images(), 1e-3)


def test_distances_against_a_loop():
    method, batch = tiny(distance=7), images()
    torch.manual_seed(3)
    with torch.no_grad():
        fake = method.gen_ab(batch.a)
    far = [(x - y) for x, y in zip(fake.flatten().tolist(), batch.b.flatten().tolist(), strict=True)]
    assert first_losses(method)["l1"] == pytest.approx(7 * sum(map(abs, far)) / len(far), rel=1e-4)
    squared = first_losses(tiny(distance=7, norm="l2"))["l2"]
    assert squared == pytest.approx(7 * sum(x * x for x in far) / len(far), rel=1e-4)


def test_a_conditional_discriminator_sees_the_input():
    """Another input beside the same output is another verdict; without the condition it is not."""
    for conditional, differs in ((True, True), (False, False)):
        method, batch = tiny(conditional=conditional), images()
        verdicts = [method.disc_b(method.disc_input(a, batch.b)) for a in (batch.a, -batch.a)]
        assert (not torch.equal(*verdicts)) == differs


def test_the_noise_is_drawn_anew_in_each_step():
    trainer = Trainer(tiny())
    losses = []
    for _ in range(3):
        trainer.step(images(), 0.0)
        losses.append(trainer.sums.report()["l1"])
    assert all(one != other for one, other in pairwise(losses))


def test_cross_entropy_is_the_default():
    assert tiny().adversarial is BCE
