import pytest
import torch

from twofold.losses.augment import OPERATIONS, augmented
from twofold.losses.settings import AdversarialSettings


def images(count=3, channels=3, height=16, width=24):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_settings_name_what_there_is():
    assert AdversarialSettings(augment=tuple(OPERATIONS)).augment == ("colour", "translation", "cutout")


@pytest.mark.parametrize("name", list(OPERATIONS))
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_each_image_is_varied_by_itself_and_draws_are_the_seeds(name, channels):
    batch = images(channels=channels)
    torch.manual_seed(0)
    one = augmented(batch, [name])
    torch.manual_seed(0)
    assert torch.equal(one, augmented(batch, [name]))
    assert not torch.equal(one, augmented(batch, [name]))
    same = augmented(batch[:1].expand(8, -1, -1, -1), [name])
    assert len({tuple(image.flatten().tolist()) for image in same}) > 4
    assert one.shape == batch.shape


def test_colour_against_a_loop(monkeypatch):
    draws = torch.tensor([0.9, 0.3, 0.75]).reshape(3, 1, 1, 1, 1)
    image = images(1)
    monkeypatch.setattr(torch, "rand", lambda *shape, device: draws.to(device))
    x = image[0] + 0.4
    grey = x.mean(0)
    for channel in range(3):
        x[channel] = grey + (x[channel] - grey) * 0.6
    x = x.mean() + (x - x.mean()) * 1.25
    torch.testing.assert_close(augmented(image, ["colour"])[0], x)


def test_translation_moves_whole_pixels_and_brings_in_zeros():
    image, lost = images(1) + 3, set()  # no zero of its own
    for seed in range(20):
        torch.manual_seed(seed)
        moved = augmented(image, ["translation"])[0]
        rows, columns = (moved[0] != 0).any(1), (moved[0] != 0).any(0)
        assert rows.sum() >= 14 and columns.sum() >= 21  # an eighth of 16 and of 24
        found = moved[:, rows][:, :, columns]
        windows = image[0].unfold(1, found.shape[1], 1).unfold(2, found.shape[2], 1)
        assert (windows == found[:, None, None]).all(-1).all(-1).all(0).any()
        lost |= {(16, int(16 - rows.sum())), (24, int(24 - columns.sum()))}
    assert {(16, 2), (24, 3)} <= lost


def test_cutout_clears_one_square():
    image = torch.ones(64, 1, 16, 16)
    torch.manual_seed(0)
    gone = (augmented(image, ["cutout"]) == 0)[:, 0]
    assert gone.sum((1, 2)).max() == 64
    for mask in gone:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None])


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_the_gradient_passes(name):
    image = images().double().requires_grad_()
    torch.manual_seed(1)
    assert torch.autograd.gradcheck(lambda x: seeded(x, name), images(1, 2, 8, 8).double().requires_grad_())
    augmented(image, [name]).sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


def seeded(image, name):
    torch.manual_seed(1)
    return augmented(image, [name])
