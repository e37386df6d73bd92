"""Critic steps, penalties, augmentation and several discs, as every method has them."""

from copy import deepcopy

import pytest
import torch

from twofold.losses.penalties import gradient_penalty, r1_penalty
from twofold.methods.adversarial import AdversarialObjective, both_logits
from twofold.methods.base import Batch
from twofold.methods.cut import CUT
from twofold.methods.cyclegan import CycleGAN
from twofold.methods.pix2pix import Pix2Pix
from twofold.networks.discriminators import MultiDiscriminator, PatchDiscriminator
from twofold.networks.layers import initialise, spectrally_normed
from twofold.networks.resnet import ResnetGenerator
from twofold.training.trainer import Trainer


def discriminator(channels=3, norm="instance"):
    network = PatchDiscriminator(channels, width=2, layers=1, norm=norm)
    initialise(network, "normal", 0.3)
    return network


def generator():
    network = ResnetGenerator(width=2, blocks=1)
    initialise(network, "normal", 0.3)
    return network


METHODS = {
    "cyclegan": lambda adversarial: CycleGAN(
        generator(), generator(), discriminator(), discriminator(), adversarial=adversarial, replay=2
    ),
    "pix2pix": lambda adversarial: Pix2Pix(generator(), discriminator(6), adversarial=adversarial),
    "cut": lambda adversarial: CUT(
        generator(), discriminator(), layers=(0, 4), patches=6, head_width=4, adversarial=adversarial
    ),
}


def images(count=1):
    draws = torch.Generator().manual_seed(5)
    return Batch(*(torch.rand(count, 3, 16, 16, generator=draws) * 2 - 1 for _ in "ab"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", ["lsgan", "bce", "hinge", "wgan"])
def test_every_method_takes_every_loss(method, loss):
    torch.manual_seed(0)
    adversarial = AdversarialObjective(loss, r1=1.0, augment=("colour", "translation", "cutout"))
    trainer = Trainer(METHODS[method](adversarial))
    before = {name: weight.clone() for name, weight in trainer.method.named_parameters()}
    for _ in range(2):
        trainer.step(images(), 1e-3)
    assert all(torch.tensor(value).isfinite() for value in trainer.sums.report().values())
    for network in trainer.method.networks():
        assert any(
            not torch.equal(weight, before[name])
            for name, weight in trainer.method.named_parameters()
            if name.startswith(network)
        ), network


@pytest.mark.parametrize("method", METHODS)
def test_generators_learn_from_every_kth_batch_and_discriminators_from_each(method):
    """Algorithm 1 of WGAN-GP: k discriminator steps on fresh images, then one of the generator; counted from `images`."""
    torch.manual_seed(0)
    trainer = Trainer(METHODS[method](AdversarialObjective("wgan", critic_steps=3)))
    trainer.images = 4  # as a resumed run: the turn is the position's, not this process's
    moved = []
    for _ in range(6):
        before = [weight.clone() for weight in trainer.method.parameters()]
        trainer.step(images(), 1e-3)
        names = [name for name, _ in trainer.method.named_parameters()]
        changed = {
            name.split(".")[0]
            for name, old, new in zip(names, before, trainer.method.parameters(), strict=True)
            if not torch.equal(old, new)
        }
        moved.append({"gen_ab" in changed, any("disc" in name for name in changed)} == {True})
    assert moved == [False, True, False, False, True, False]  # batches 4 to 9; 5 and 8 are the last of three


def test_the_discriminators_loss_is_the_loss_with_its_penalties():
    torch.manual_seed(0)
    disc, (real, fake, *_) = discriminator(), images()
    plain = AdversarialObjective("wgan", gradient_penalty=0).discriminator_loss(disc, real, fake)
    torch.manual_seed(1)
    whole = AdversarialObjective("wgan", gradient_penalty=10, r1=2).discriminator_loss(disc, real, fake)
    torch.manual_seed(1)
    expected = plain + 10 * gradient_penalty(disc, real, fake) + 2 * r1_penalty(disc, real)
    torch.testing.assert_close(whole, expected)
    lsgan = AdversarialObjective("lsgan", gradient_penalty=10)  # which only wgan has
    torch.testing.assert_close(
        lsgan.discriminator_loss(disc, real, fake),
        AdversarialObjective("lsgan", gradient_penalty=0).discriminator_loss(disc, real, fake),
    )


def test_no_gradient_of_the_discriminators_loss_reaches_the_translation():
    for loss in ("lsgan", "wgan"):
        fake = images().b.requires_grad_()
        AdversarialObjective(loss, r1=1).discriminator_loss(discriminator(), images().a, fake).backward()
        assert fake.grad is None


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_both_inputs_in_one_call_are_what_two_calls_give(norm):
    torch.manual_seed(0)
    disc = MultiDiscriminator(
        [[discriminator(norm=norm), discriminator(norm=norm)], [discriminator(norm=norm)]]
    )
    twin = deepcopy(disc)
    real, fake, *_ = images(2)
    mine = both_logits(disc, real, fake)
    for found, expected in zip(mine, (twin(real), twin(fake)), strict=True):
        assert len(found) == 3
        for x, y in zip(found, expected, strict=True):
            torch.testing.assert_close(x, y)
    for name, buffer in twin.named_buffers():  # what batch norm has gathered of both
        torch.testing.assert_close(disc.get_buffer(name), buffer)
    sizes = both_logits(discriminator(), real, fake[:, :, :12])
    assert sizes[0].shape != sizes[1].shape


def test_spectral_norm_trains_and_its_iteration_is_part_of_the_state():
    torch.manual_seed(0)
    disc = spectrally_normed(discriminator())
    method = CycleGAN(generator(), generator(), disc, spectrally_normed(discriminator()), replay=0)
    trainer = Trainer(method, channels_last=True, fused=True)
    kept = method.disc_a.state_dict()["convs.0.parametrizations.weight.0._u"].clone()
    for _ in range(20):
        trainer.step(images(), 1e-3)
    assert not torch.equal(method.disc_a.state_dict()["convs.0.parametrizations.weight.0._u"], kept)
    method.eval()
    for index in (0, 2):
        weight = method.disc_a.convs[index].weight.flatten(1)
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, rel=0.05)
