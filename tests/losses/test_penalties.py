"""Penalties on a discriminator whose gradient is known, against a loop of finite differences, and through real discriminators."""

import pytest
import torch
from torch import nn

from twofold.losses.penalties import gradient_penalty, image_gradients, r1_penalty
from twofold.networks.discriminators import MultiDiscriminator, PatchDiscriminator
from twofold.networks.layers import initialise


def images(count=2, seed=0):
    return torch.randn(count, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Linear(nn.Module):
    """D(x) = w·x for each image: its gradient is w wherever one looks."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(images(1, seed=9)[0])

    def forward(self, x):
        return (x * self.w).sum((1, 2, 3)).reshape(-1, 1, 1, 1)


def test_a_linear_discriminators_penalties_are_known():
    discriminator = Linear()
    norm = discriminator.w.norm().item()
    assert gradient_penalty(discriminator, images(seed=1), images(seed=2)).item() == pytest.approx(
        (norm - 1) ** 2
    )
    assert r1_penalty(discriminator, images(seed=1)).item() == pytest.approx(0.5 * norm**2)


def test_a_map_of_logits_counts_as_its_mean():
    """D is the mean of the map, so each of its 20 logits has a gradient of w / 20."""
    discriminator = nn.Conv2d(3, 1, 1, bias=False).double()
    found = image_gradients(discriminator, images())
    for channel, weight in enumerate(discriminator.weight.flatten().tolist()):
        torch.testing.assert_close(
            found[:, channel], torch.full((2, 4, 5), weight / 20, dtype=torch.float64), rtol=1e-10, atol=1e-12
        )


def tiny(norm="instance"):
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(3, width=2, layers=1, norm=norm)
    initialise(discriminator, "normal", 0.5)
    return discriminator.double()


@pytest.mark.parametrize("penalty", ["gradient", "r1"])
def test_against_finite_differences_in_every_pixel(penalty):
    discriminator = tiny()
    draws = torch.Generator().manual_seed(1)
    real, fake = (torch.rand(1, 3, 6, 6, generator=draws, dtype=torch.float64) for _ in "rf")
    torch.manual_seed(7)
    value = (
        gradient_penalty(discriminator, real, fake)
        if penalty == "gradient"
        else r1_penalty(discriminator, real)
    )
    torch.manual_seed(7)
    mix = torch.rand(1, 1, 1, 1).double() if penalty == "gradient" else 0.0
    point = (real + mix * (fake - real)).detach()
    slopes = torch.zeros(point.numel(), dtype=torch.float64)
    with torch.no_grad():
        for place in range(point.numel()):
            step = torch.zeros_like(point).flatten()
            step[place] = 1e-6
            up, down = (discriminator(point + sign * step.view_as(point)).mean() for sign in (1, -1))
            slopes[place] = (up - down) / 2e-6
    expected = (slopes.norm() - 1) ** 2 if penalty == "gradient" else 0.5 * slopes.square().sum()
    torch.testing.assert_close(value.detach(), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_the_penaltys_own_gradient_is_its_slope(norm):
    """Second derivatives: by each weight of the discriminator, against finite differences."""
    discriminator = tiny(norm)
    real, fake = torch.rand(2, 3, 6, 6).double(), torch.rand(2, 3, 6, 6).double()

    def penalty():
        torch.manual_seed(3)
        return gradient_penalty(discriminator, real, fake) + r1_penalty(discriminator, real)

    weight = discriminator.convs[0].weight
    discriminator.zero_grad()
    penalty().backward()
    for place in (0, 17, 40):
        with torch.no_grad():
            flat = weight.view(-1)
            kept = flat[place].item()
            flat[place] = kept + 1e-5
        above = penalty().item()
        with torch.no_grad():
            flat[place] = kept - 2e-5 + 1e-5
        below = penalty().item()
        with torch.no_grad():
            flat[place] = kept
        slope = (above - below) / 2e-5
        assert weight.grad.view(-1)[place].item() == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_several_discriminators_are_penalised_as_their_mean():
    discriminators = [tiny(), tiny()]
    nn.init.constant_(discriminators[1].convs[-1].weight, 0.1)
    both = MultiDiscriminator([discriminators])
    image = torch.rand(1, 3, 8, 8).double()
    mean = sum(image_gradients(discriminator, image.clone()) for discriminator in discriminators) / 2
    torch.testing.assert_close(image_gradients(both, image.clone()), mean)


def test_nothing_reaches_the_images():
    real, fake = (torch.rand(1, 3, 8, 8).double().requires_grad_() for _ in "rf")
    (gradient_penalty(tiny(), real, fake) + r1_penalty(tiny(), real)).backward()
    assert real.grad is None and fake.grad is None
