import pytest
import torch

from twofold.data.augment import Moves, augment

crops = torch.randint(0, 256, (3, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def jittered_by_hand(pixels, brightness, contrast, saturation):
    """One image as nested lists [row][column] of channels in [0, 1]."""
    colours = [[[v * (1 + brightness) for v in pixel] for pixel in row] for row in pixels]
    values = [v for row in colours for pixel in row for v in pixel]
    mean = sum(values) / len(values)
    colours = [[[mean + (v - mean) * (1 + contrast) for v in pixel] for pixel in row] for row in colours]
    if len(colours[0][0]) == 3:
        for row in colours:
            for pixel in row:
                grey = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]
                pixel[:] = [grey + (v - grey) * (1 + saturation) for v in pixel]
    return [[[min(1.0, max(0.0, v)) for v in pixel] for pixel in row] for row in colours]


def test_nothing_asked_nothing_done():
    assert torch.allclose(augment(crops, Moves(), None), crops / 127.5 - 1, atol=1e-6)


def test_flips_mirror_the_images_they_name():
    plain = augment(crops, Moves(), None)
    flipped = augment(crops, Moves(torch.tensor([True, False, True])), None)
    assert torch.equal(flipped[0], plain[0].flip(2))
    assert torch.equal(flipped[1], plain[1])
    assert torch.equal(flipped[2], plain[2].flip(2))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_jitter_is_what_it_is_by_hand(channels):
    images = crops.repeat(1, 2, 1, 1)[:, :channels]
    amounts = [[0.5, -0.3, 0.8], [-0.9, 0.2, -0.5], [0.0, 0.0, 0.0]]
    result = augment(images, Moves(), torch.tensor(amounts))
    for image, amount, got in zip(images, amounts, result, strict=True):
        expected = jittered_by_hand((image / 255).permute(1, 2, 0).tolist(), *amount)
        assert torch.allclose((got.permute(1, 2, 0) + 1) / 2, torch.tensor(expected), atol=1e-5)


def test_alpha_is_neither_jittered_nor_mixed_in():
    alpha = torch.cat([crops, crops[:, :1]], dim=1)
    amounts = torch.tensor([[0.5, -0.3, 0.8]] * 3)
    result = augment(alpha, Moves(), amounts)
    assert torch.equal(result[:, 3:], augment(crops, Moves(), None)[:, :1])
    assert torch.equal(result[:, :3], augment(crops, Moves(), amounts))
