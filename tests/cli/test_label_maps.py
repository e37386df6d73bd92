"""Runs with label maps from the command line: classes found, trained on, written, and scored."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twofold.formats import images
from twofold.runs import Run
from twofold.translation.header import read_header

PALETTE = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
IDS = np.array([0, 3, 90, 200], np.uint8)


@pytest.fixture
def pairs(folders, made, monkeypatch):
    """Makes ./photos and ./maps, 6 each under the same names: pairs(lambda classes: a PIL picture)."""
    monkeypatch.setenv("TWOFOLD_CACHE", str(made.cache))

    def make(picture):
        Path("maps").mkdir()
        for i in range(6):
            rng = np.random.default_rng(i)
            classes = rng.integers(0, 4, (4, 4)).repeat(9, 0).repeat(9, 1).astype(np.uint8)
            classes[:9, :9] = np.arange(4).repeat(9)[:9, None] if i else np.arange(9) % 4
            photo = (classes[..., None] * 60 + rng.integers(0, 40, (36, 36, 3))).astype(np.uint8)
            images.write(photo, Path("photos", f"{i}.png"))
            picture(classes).save(Path("maps", f"{i}.png"))

    return make


def indexed(classes):
    picture = Image.fromarray(classes)
    picture.putpalette([part for colour in PALETTE for part in colour])
    return picture


def known(path, values):
    return set(np.unique(images.read_stored(path, indices=True).pixels).tolist()) <= set(values)


@pytest.mark.parametrize("onehot", [False, True])
@pytest.mark.parametrize("way", ["ab", "ba"])
def test_pairs_with_label_maps(pairs, call, tiny, way, onehot):
    """Photographs to label maps, and back; ids in their order, and one channel for each class."""
    pairs(lambda classes: Image.fromarray(IDS[classes]))
    folders, option = (
        (["photos", "maps"], "--labels-b") if way == "ab" else (["maps", "photos"], "--labels-a")
    )
    more = ["--data.onehot"] if onehot else []
    result = call("train", *folders, "--method", "pix2pix", option, *more, "--out", "run", *tiny())
    assert (result.code, result.err) == (0, "")
    side = way.index("b")
    assert f"{'AB'[side]}: uint8, label maps of 4 classes: 0, 3, 90, 200" in result.out
    header = read_header(Run(Path("run")).newest_snapshot("ab"))
    network = (header.network["in_channels"], header.network["out_channels"])
    assert network == ((3, 4) if onehot else (3, 1))[:: 1 if side else -1]
    assert call("translate", "run", folders[0], "-o", "out").code == 0
    made = [Path("out", f"{i}.png") for i in range(6)]
    if way == "ab":
        assert all(known(path, IDS.tolist()) for path in made)
    else:
        assert all(images.inspect(path).channels == 3 for path in made)


def test_a_palette_comes_back_and_the_classes_are_scored_without_options(pairs, call, tiny):
    pairs(indexed)
    arguments = ["--method", "pix2pix", "--labels-b", "--out", "run"]
    assert call("train", "photos", "maps", *arguments, *tiny()).code == 0
    assert call("translate", "run", "photos", "-o", "out", "--precision", "float32").code == 0
    for i in range(6):
        with Image.open(f"out/{i}.png") as picture:
            assert picture.mode == "P" and picture.getpalette()[:12] == [part for c in PALETTE for part in c]
        assert known(f"out/{i}.png", range(4))
    assert call("evaluate", "run", "photos", "maps", "--paired", "-o", "e.json").code == 0
    found = json.loads(Path("e.json").read_text())
    truth = [images.read_stored(f"maps/{i}.png", indices=True).pixels for i in range(6)]
    made = [images.read_stored(f"out/{i}.png", indices=True).pixels for i in range(6)]
    right = np.mean([(one == other).mean() for one, other in zip(truth, made, strict=True)])
    value = found["rows"][0]["values"][found["columns"].index("pixel accuracy")]
    assert value == pytest.approx(right, rel=1e-5)
    assert [each["name"] for each in found["classes"]] == ["0", "1", "2", "3"]


def test_colours_stay_colours_in_unpaired_runs(pairs, call, tiny):
    pairs(lambda classes: indexed(classes).convert("RGB"))
    for onehot in ([], ["--data.onehot"]):
        assert (
            call("train", "photos", "maps", "--labels-b", *onehot, "--out", f"run{len(onehot)}", *tiny()).code
            == 0
        )
        assert call("translate", f"run{len(onehot)}", "photos", "-o", f"out{len(onehot)}").code == 0
        for i in range(6):
            pixels = images.read(f"out{len(onehot)}/{i}.png", 3)
            assert {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()} <= set(PALETTE)


def test_labels_are_suggested_never_assumed(pairs, call, tiny):
    pairs(lambda classes: Image.fromarray(IDS[classes]))
    result = call("data", "check", "photos", "maps")
    assert result.code == 0 and "if these are label maps, train with --labels-b" in result.out.replace(
        "\n   ", " "
    )
    checked = call("data", "check", "photos", "maps", "--labels-b")
    assert (
        checked.code == 0
        and "6 label maps, 1 channel, uint8 of 4 classes: 0, 3, 90, 200" in checked.out
        and "if these are" not in checked.out
    )
    assert call("data", "check", "photos", "maps", "--labels-a").code == 1
    said = call("train", "photos", "maps", "--out", "run", *tiny(), "--dry-run").out
    assert "labels_b: false" in said and "label maps" not in said


def test_photographs_are_no_label_maps(pairs, tiny, refuses):
    pairs(lambda classes: Image.fromarray(IDS[classes]))
    line = refuses("train", "maps", "photos", "--labels-b", "--out", "run", *tiny())
    assert line.startswith("B: ") and ".png has " in line and "not a label map of 2 to 256 classes" in line
