"""Sample grids: what their columns show."""

import numpy as np
import torch
from torch import nn

from twofold.formats.images import to_uint8
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
