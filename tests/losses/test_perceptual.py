import pytest
import torch
from torch import Tensor, nn

from twofold.losses.perceptual import Perceptual


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.conv(x)
        return [first, first.square()[:, :2]]


def images(channels=3, seed=0):
    return torch.rand(1, channels, 6, 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_mean_over_maps_of_the_mean_absolute_difference():
    network = Features()
    distance = Perceptual(network, weight=3.0)
    x, y = images(seed=0), images(seed=1)
    with torch.no_grad():
        one, other = network(x), network(y)
    means = [(p - q).abs().mean().item() for p, q in zip(one, other, strict=True)]
    assert distance(x, y).item() == pytest.approx(3 * sum(means) / 2, rel=1e-5)
    assert distance(x, x).item() == 0


def test_the_gradient_reaches_the_image_alone():
    distance = Perceptual(Features(), 1.0)
    x, y = images(seed=0).requires_grad_(), images(seed=1).requires_grad_()
    distance(x, y).backward()
    assert x.grad is not None and y.grad is None
    assert all(weight.grad is None for weight in distance.network.parameters())


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_are_shown_as_colour(channels):
    assert Perceptual(Features(), 1.0)(images(channels, 0), images(channels, 1)).item() > 0


def test_a_single_map_will_do_and_bf16_is_computed_in_float32():
    distance = Perceptual(nn.Conv2d(3, 2, 1), 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert distance(images(seed=0).bfloat16(), images(seed=1)).dtype == torch.float32


def test_the_network_moves_with_its_owner_and_stays_in_eval_mode():
    owner = nn.Module()
    owner.perceptual = Perceptual(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Dropout()), 1.0)
    owner.train().to("meta")
    assert {weight.device.type for weight in owner.perceptual.network.parameters()} == {"meta"}
    assert not any(module.training for module in owner.perceptual.modules())
    shown = torch.empty(1, 3, 6, 6, device="meta")
    assert owner.perceptual(shown, shown).device.type == "meta"
