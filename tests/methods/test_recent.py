"""Extra discriminator updates on recent images, against lists of what the discriminators have seen."""

import pytest
import torch

from twofold.methods.base import Batch
from twofold.methods.cyclegan import CycleGAN
from twofold.methods.replay import DRAWN_PER_IMAGE, RecentImages
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def numbered(first, count):
    return torch.arange(first, first + count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 2, 3, 4)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_last_are_kept_and_drawn_alike(count):
    recent, seen = RecentImages(6), []
    for step in range(7):
        recent.keep(numbered(step * count, count))
        seen += range(step * count, (step + 1) * count)
        drawn = recent.draw(600)
        assert drawn.shape == (600, 2, 3, 4)
        assert (drawn == drawn[:, :1, :1, :1]).all(), "images were mixed"
        found, times = drawn[:, 0, 0, 0].unique(return_counts=True)
        assert found.tolist() == seen[-6:]
        assert times.min() > 0.6 * 600 / len(found)


def test_loaded_images_are_drawn_as_the_saved_ones():
    one, other = RecentImages(4), RecentImages(4)
    for step in range(7):
        one.keep(numbered(step, 1))
    other.load_state_dict({name: x.clone() for name, x in one.state_dict().items()})
    drawn = []
    for recent in (one, other):
        recent.keep(numbered(9, 1))
        torch.manual_seed(2)
        drawn.append(recent.draw(50))
    assert torch.equal(*drawn)
    other.load_state_dict(RecentImages(4).state_dict())
    other.keep(numbered(3, 1))
    assert other.draw(5).unique().tolist() == [3]


def method(**switches):
    generators = [ResnetGenerator(width=2, blocks=1) for _ in "ab"]
    discs = [PatchDiscriminator(width=2, layers=1) for _ in "ab"]
    for network in (*generators, *discs):
        initialise(network, "normal", 0.2)
    return CycleGAN(*generators, *discs, **{"replay": 0, **switches})


def batch(count=1):
    return Batch(*(torch.rand(count, 3, 16, 16) * 2 - 1 for _ in "ab"))


def test_discriminators_are_updated_again_on_recent_images():
    """On the first batch there is one image of each kind, so an extra update's loss is that of the batch."""
    made = method(recent_updates=2)
    updates = [(phase, losses) for phase, losses, _ in made.step(batch())]
    assert [phase for phase, _ in updates] == ["G", "G", "D", "D", "D"]
    for _, losses in updates[3:]:
        assert losses.keys() == {"disc_a", "disc_b"}
        for name, loss in losses.items():
            torch.testing.assert_close(loss, updates[2][1][name])
    assert [phase for phase, *_ in method(recent_updates=0).step(batch())] == ["G", "G", "D"]
    assert list(method(recent_updates=0).recent) == []


def test_an_extra_update_draws_as_many_real_as_translated_images(monkeypatch):
    made, asked = method(recent_updates=1, gan_ba=0), []
    monkeypatch.setattr(
        type(made.adversarial),
        "discriminator_loss",
        lambda self, disc, *images: asked.append((disc, *images)) or images[0].sum(),
    )
    first, second = batch(2), batch(2)
    for each in (first, second):
        list(made.step(each))
    assert [disc for disc, *_ in asked] == [made.disc_b] * 4  # A's discriminator has no weight
    _, real, fake = asked[-1]
    assert len(real) == len(fake) == 2 * DRAWN_PER_IMAGE
    known = torch.cat((first.b, second.b))
    assert all(any(torch.equal(x, y) for y in known) for x in real)
    assert not fake.requires_grad
