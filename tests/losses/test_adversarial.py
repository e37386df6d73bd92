import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from twofold.losses.adversarial import discriminator_loss, frozen, generator_loss

GOLDEN = load_file(Path(__file__).parents[1] / "goldens" / "gan_losses.safetensors")
ORIGINAL = {"lsgan": "lsgan", "bce": "vanilla"}


@pytest.mark.parametrize("name", ["lsgan", "bce"])
def test_losses_equal_the_originals(name):
    logits = GOLDEN["logits"]
    real, fake = (GOLDEN[f"{ORIGINAL[name]}/{target}"][0] for target in ("real", "fake"))
    torch.testing.assert_close(generator_loss(name, logits), real, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(
        discriminator_loss(name, logits, logits), (real + fake) / 2, atol=1e-12, rtol=1e-10
    )


def test_losses_equal_a_loop_over_the_logits():
    real, fake = [0.3, -2.0, 5.0], [-0.7, 1.5, 0.0]
    squares = sum((x - 1) ** 2 for x in real) / 3, sum(x**2 for x in fake) / 3
    entropy = sum(math.log1p(math.exp(-x)) for x in real) / 3, sum(math.log1p(math.exp(x)) for x in fake) / 3
    tensors = torch.tensor(real).double(), torch.tensor(fake).double()
    assert discriminator_loss("lsgan", *tensors).item() == pytest.approx(sum(squares) / 2, rel=1e-6)
    assert discriminator_loss("bce", *tensors).item() == pytest.approx(sum(entropy) / 2, rel=1e-6)
    assert generator_loss("bce", tensors[0]).item() == pytest.approx(entropy[0], rel=1e-6)


@pytest.mark.parametrize("name", ["lsgan", "bce"])
def test_losses_are_float32_at_least(name):
    for given, computed in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        logits = torch.full((1000,), 3.1).to(given).requires_grad_()
        loss = generator_loss(name, logits)
        assert loss.dtype == discriminator_loss(name, logits, logits).dtype == computed
        loss.backward()
        assert logits.grad is not None
    exact = generator_loss(name, torch.full((1,), 3.1).bfloat16().double())
    rounded = generator_loss(name, torch.full((1000,), 3.1).bfloat16())
    assert rounded.item() == pytest.approx(exact.item(), rel=1e-5)


def test_extreme_logits_stay_finite():
    logits = torch.tensor([-1e4, 1e4])
    assert discriminator_loss("bce", logits, logits).isfinite()


def test_hinge_and_wasserstein_equal_a_loop_over_the_logits():
    real, fake = [0.3, -2.0, 5.0], [-0.7, 1.5, 0.0]
    tensors = torch.tensor(real).double(), torch.tensor(fake).double()
    hinge = sum(max(0, 1 - x) for x in real) / 3 + sum(max(0, 1 + x) for x in fake) / 3
    assert discriminator_loss("hinge", *tensors).item() == pytest.approx(hinge, rel=1e-6)
    assert discriminator_loss("wgan", *tensors).item() == pytest.approx((sum(fake) - sum(real)) / 3, rel=1e-6)
    for name in ("hinge", "wgan"):
        assert generator_loss(name, tensors[1]).item() == pytest.approx(-sum(fake) / 3, rel=1e-6)


@pytest.mark.parametrize("name", ["lsgan", "bce", "hinge", "wgan"])
def test_several_discriminators_count_alike_however_large_their_maps(name):
    small, large = torch.randn(1, 1, 2, 2).double(), torch.randn(1, 1, 9, 9).double()
    for loss in (lambda x: generator_loss(name, x), lambda x: discriminator_loss(name, x, x)):
        each = (loss(small) + loss(large)) / 2
        torch.testing.assert_close(loss((small, large)), each)


def test_frozen_weights_take_no_gradient_and_are_restored():
    torch.manual_seed(0)
    discriminator = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)).double()
    discriminator[0].bias.requires_grad_(False)
    before = [weight.requires_grad for weight in discriminator.parameters()]
    fake = torch.randn(2, 3, 9, 9, dtype=torch.float64, requires_grad=True)
    with frozen(discriminator):
        term = generator_loss("lsgan", discriminator(fake))
    assert (
        [weight.requires_grad for weight in discriminator.parameters()] == before == [True, False, True, True]
    )
    term.backward()
    assert all(weight.grad is None for weight in discriminator.parameters())
    again = fake.detach().requires_grad_()
    generator_loss("lsgan", discriminator(again)).backward()
    torch.testing.assert_close(fake.grad, again.grad)


def test_frozen_weights_are_restored_after_an_error():
    discriminator = nn.Conv2d(3, 1, 3)
    with pytest.raises(RuntimeError), frozen(discriminator):
        discriminator(torch.zeros(1, 2, 9, 9))
    assert all(weight.requires_grad for weight in discriminator.parameters())
