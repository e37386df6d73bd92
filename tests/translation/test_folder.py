"""A folder on its way through `twofold translate`: batches, bad files between, an interruption."""

import re

import numpy as np
import pytest

from twofold.cli import app as cli
from twofold.errors import TwofoldError
from twofold.formats import images
from twofold.translation.folder import translate_files
from twofold.translation.memory import rough_bytes_per_pixel
from twofold.translation.sources import plan
from twofold.translation.translator import MAX_BATCH, Translator


@pytest.fixture
def folder(tmp_path):
    """Pictures of two sizes, a file that is none among them."""
    rng = np.random.default_rng(0)
    for place, side in enumerate([16, 16, 16, 24, 24, 16, 16]):
        images.write(rng.integers(0, 256, (side, 16, 3), dtype=np.uint8), tmp_path / "in" / f"{place}.png")
    (tmp_path / "in" / "4x.png").write_text("no picture")
    return tmp_path / "in"


def translate(made, folder, out):
    done = list(translate_files(made, plan([folder], out)))
    return done, {path.name: images.read(path) for path in sorted(out.iterdir())}


def test_batches_change_no_picture_nor_its_name(translator, folder, tmp_path, monkeypatch):
    made, sizes = translator(size=16), []
    made.max_batch = 1
    _, alone = translate(made, folder, tmp_path / "alone")
    made.max_batch = 3
    arrays = made.arrays
    monkeypatch.setattr(made, "arrays", lambda batch, at: sizes.append(len(batch)) or arrays(batch, at))
    done, together = translate(made, folder, tmp_path / "together")
    assert sizes == [3, 2, 2]
    assert [one.source.name for one in done] == [path.name for path in images.find(folder)]
    assert [one.source.name for one in done if one.problem] == ["4x.png"]
    assert list(together) == list(alone) and len(alone) == 7
    assert all(np.abs(together[name].astype(int) - alone[name]).max() <= 1 for name in alone)


def test_images_of_other_sizes_go_together_where_the_network_sees_one_size(translator, tmp_path, monkeypatch):
    made, sizes = translator(size=16), []
    rng = np.random.default_rng(0)
    for place, side in enumerate([16, 32, 40, 24]):
        images.write(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), tmp_path / "in" / f"{place}.png")
    made.max_batch = 1
    _, alone = translate(made, tmp_path / "in", tmp_path / "alone")
    made.max_batch = 3
    arrays = made.arrays
    monkeypatch.setattr(made, "arrays", lambda batch, at: sizes.append(len(batch)) or arrays(batch, at))
    _, together = translate(made, tmp_path / "in", tmp_path / "together")
    assert sizes == [3, 1]
    assert [each.shape[0] for each in together.values()] == [16, 32, 40, 24]
    assert all(np.abs(together[name].astype(int) - alone[name]).max() <= 1 for name in alone)


def test_what_does_not_fit_together_goes_alone(translator, folder, tmp_path, monkeypatch):
    made = translator(size=16)
    arrays = made.arrays

    def cramped(batch, at):
        if len(batch) > 1 or batch[0].shape[0] == 24:
            raise TwofoldError("too many for the memory")
        return arrays(batch, at)

    monkeypatch.setattr(made, "arrays", cramped)
    done, written = translate(made, folder, tmp_path / "out")
    problems = {one.source.name: one.problem for one in done if one.problem}
    assert set(problems) == {"3.png", "4.png", "4x.png"} and problems["3.png"] == "too many for the memory"
    assert list(written) == ["0.png", "1.png", "2.png", "5.png", "6.png"]


def test_an_interruption_leaves_whole_pictures_alone(translator, folder, tmp_path, monkeypatch, capsys):
    translator(size=16).save(tmp_path / "x.safetensors")
    monkeypatch.setitem(MAX_BATCH, "cpu", 1)
    arrays, seen = Translator.arrays, []

    def interrupted(self, batch, at):
        seen.append(batch)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return arrays(self, batch, at)

    monkeypatch.setattr(Translator, "arrays", interrupted)
    out = tmp_path / "out"
    assert cli.run(["translate", str(tmp_path / "x.safetensors"), str(folder), "-o", str(out)]) == 130
    pattern = r"twofold: interrupted: \d of 8 images are translated; the same command with --skip-existing translates the"
    assert re.search(pattern + " others\n$", capsys.readouterr().err)
    left = sorted(path.name for path in out.iterdir())
    assert left == ["0.png", "1.png", "2.png"][: len(left)]
    assert all(images.read(out / name).shape == (16, 16, 3) for name in left)


def test_how_many_go_together(translator, monkeypatch):
    made = translator(size=16)
    assert made.batch_size() == 4 and made.batch_size(512) == 4
    assert made.batch_size(513) == made.batch_size("native") == 1
    assert made.batch_size("native", (256, 1024)) == 4 and made.batch_size("native", (256, 1040)) == 1
    one = made.header.size**2 * rough_bytes_per_pixel(made.generator)
    for room, together in ((0, 1), (3, 1), (4, 2), (40, 4)):
        monkeypatch.setattr("twofold.hardware.free_memory", lambda _, room=room: room * one)
        assert made.batch_size() == together, room
    made.max_batch = 1  # as with noise, which is drawn for one image at a time
    assert made.batch_size() == 1
