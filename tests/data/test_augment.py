import pytest
import torch

from twofold.data.augment import Moves, augment
from twofold.formats.contract import Contract

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


def test_vertical_flips_and_quarter_turns():
    crops = torch.arange(8 * 2 * 5 * 5, dtype=torch.uint8).reshape(8, 2, 5, 5)
    moves = torch.tensor([[bool(i >> bit & 1) for i in range(8)] for bit in range(3)])
    result = augment(crops, Moves(None, *moves), None)
    for i, image in enumerate(augment(crops, Moves(), None)):
        turned = torch.rot90(
            image.flip(1) if i & 1 else image, (2 if i & 2 else 0) + (1 if i & 4 else 0), (1, 2)
        )
        assert torch.equal(result[i], turned)


def test_deep_values_are_mapped_and_jittered_in_the_range_of_the_networks():
    contract = Contract("int16", 2, (-1000.0,), (1000.0,))
    crops = torch.tensor([-2000, -1000, 0, 1000]).to(torch.int16).reshape(1, 1, 2, 2).repeat(1, 2, 1, 1)
    assert augment(crops, Moves(), None, contract)[0, 1].tolist() == [[-1, -1], [0, 1]]
    brighter = augment(crops, Moves(), torch.tensor([[0.5, 0.0, 0.0]]), contract)
    assert torch.allclose(brighter[0, 0], torch.tensor([[-1, -1], [0.5, 1]]))
