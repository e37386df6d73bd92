"""Sample grids: what their columns show."""

import numpy as np
import pytest
import torch
from torch import nn

from twofold.formats.contract import Contract, Labels
from twofold.formats.display import View
from twofold.formats.values import from_network, to_network, to_uint8
from twofold.reporting.samples import grid, write


def images(seed):
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 16, 16, generator=draws) * 2 - 1


def test_a_grids_third_column():
    """The reconstruction, the ground truth, or the difference."""
    source, answers = images(0), images(1)
    identity, darker = nn.Identity(), nn.Hardtanh(-1.0, 0.0)
    columns = {}
    for name, third in (("back", identity), ("answers", list(answers)), ("change", None)):
        picture = np.asarray(grid(source, darker, third)).astype(int)
        columns[name] = picture[:, 32:]
        assert np.array_equal(picture[:, 16:32], np.minimum(picture[:, :16], 128))
    shown = to_uint8(torch.cat(list(answers), 1)).permute(1, 2, 0).numpy()
    assert np.array_equal(columns["answers"], shown)
    before = to_uint8(torch.cat(list(source), 1)).permute(1, 2, 0).numpy().astype(int)
    assert np.array_equal(columns["back"], np.minimum(before, 128))
    expected = 127.5 + (np.minimum(before, 127.5) - before) / 2
    assert np.abs(columns["change"] - expected).max() <= 1


def test_grey_and_many_channels_are_shown_as_colour(tmp_path):
    for channels in (1, 2, 5):
        picture = grid(torch.zeros(1, channels, 8, 8), nn.Identity(), None)
        assert picture.size == (24, 8) and picture.mode == "RGB"
    write(picture, tmp_path / "samples" / "grid.webp")
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["grid.webp"]


class Mean(nn.Module):
    """The mean of all channels, as `channels` channels."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return x.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)


def by_0_1(sources, generator, back):
    """The grid of twofold 0.1, in its words."""
    rows = []
    for source in sources.split(1):
        row = [source, generator(source), back(generator(source))]
        rows.append(torch.cat([x[:, :3] if x.shape[1] >= 3 else x[:, [0, 0, 0]] for x in row], 3))
    return to_uint8(torch.cat(rows, 2))[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("a", "b"), [(3, 3), (1, 3), (3, 1), (4, 3)])
def test_grids_of_pictures_are_those_of_0_1(a, b):
    sources = torch.rand(2, a, 16, 16, generator=torch.Generator().manual_seed(4)) * 2.2 - 1.1
    views = View(Contract(channels=a)), View(Contract(channels=b))
    picture = np.asarray(grid(sources, Mean(b), Mean(a), views=views))
    assert np.array_equal(picture, by_0_1(sources, Mean(b), Mean(a)))


BANDS = Contract(
    "uint16", 13, tuple(float(i) for i in range(13)), tuple(1000.0 + 100 * i for i in range(13)), "bits"
)
CT = Contract("int16", 1, (-1024.0,), (3071.0,), "percentiles")


@pytest.mark.parametrize("chosen", [(), (12, 3, 7), (5,)])
def test_bands_and_ct_are_shown_side_by_side(chosen):
    """A has 13 bands of 16 bits, B one channel of CT; each is shown through its range."""
    rng = np.random.default_rng(0)
    bands = torch.from_numpy(rng.integers(0, 2300, (2, 13, 8, 8)).astype(np.uint16))
    answers = torch.from_numpy(rng.integers(-1024, 3072, (2, 1, 8, 8)).astype(np.int16))
    third, views = list(to_network(answers, CT)), (View(BANDS, chosen), View(CT))
    picture = np.asarray(grid(to_network(bands, BANDS), Mean(1), third, views=views))
    assert picture.shape == (16, 24, 3)
    for row in range(2):
        source, translation, answer = (picture[8 * row : 8 * row + 8, 8 * i : 8 * i + 8] for i in range(3))
        expected = View(BANDS, chosen).show(bands[row].permute(1, 2, 0).numpy())
        assert np.abs(source.astype(int) - expected).max() <= 1
        made = from_network(Mean(1)(to_network(bands[row : row + 1], BANDS)), CT)[0].permute(1, 2, 0).numpy()
        assert np.abs(translation.astype(int) - View(CT).show(made)).max() <= 1
        shown = View(CT).show(answers[row].permute(1, 2, 0).numpy())
        assert np.abs(answer.astype(int) - shown).max() <= 1
    change = np.asarray(grid(to_network(bands, BANDS), Mean(1), None, views=views))
    assert change.shape == (16, 24, 3)


@pytest.mark.parametrize("onehot", [False, True])
def test_label_maps_are_shown_in_their_colours(onehot):
    palette = ((0, 0, 0), (200, 10, 30), (9, 99, 0), (0, 50, 255))
    labels = Labels(((0,), (1,), (3,)), palette=palette, onehot=onehot)
    contract = Contract(channels=1, labels=labels)
    ids = torch.tensor([0, 1, 3, 3]).repeat(4, 1)[None, None].to(torch.uint8)  # (1, 1, 4, 4)
    values = to_network(ids, contract)
    picture = np.asarray(grid(values, nn.Identity(), nn.Identity(), views=(View(contract), View(contract))))
    expected = np.tile(np.array([palette[i] for i in (0, 1, 3, 3)]), (4, 3, 1))
    assert np.array_equal(picture, expected)
