"""Pairs and colourisation from the command line to a translation, with a kill on the way."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from twofold.formats import images
from twofold.formats.lab import to_lab
from twofold.runs import Run
from twofold.translation.translator import Translator

PIX2PIX = {"method": "pix2pix", "size": 32, "training__state_every": 2}


@pytest.fixture
def halves(tmp_path, many) -> Path:
    """Three images of 40 x 20 px."""
    left, right = many(tmp_path / "left", 3), many(tmp_path / "right", 3)
    for i in range(3):
        both = [images.read(folder / f"{i}.png") for folder in (left, right)]
        images.write(np.concatenate(both, 1), tmp_path / "halves" / f"{i}.png")
    return tmp_path / "halves"


def tokens(lab, folder, out, **changes):
    words = lab.tokens(out, **changes)
    return [words[0], str(folder), *words[3:]]


@pytest.mark.parametrize(
    "changes",
    [PIX2PIX, PIX2PIX | {"data__direction": "ba"}, {"data__paired": "true", "data__val_a": "VAL"}],
    ids=["pix2pix", "the other way", "cyclegan"],
)
def test_a_killed_run_on_halves_ends_as_an_undisturbed_one(lab, halves, tmp_path, many, changes):
    val = many(tmp_path / "val", 1) if changes.get("data__val_a") else None
    changes = changes | ({"data__val_a": val} if val else {})
    out, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    assert lab.run(tokens(lab, halves, undisturbed, **changes)).code == 0
    ended = lab.run(tokens(lab, halves, out, **changes), ("after step", 5))
    assert ended.code == -signal.SIGKILL, ended.output
    ended = lab.run(["train", "--resume", str(out)])
    assert ended.code == 0, ended.output
    assert lab.outcome(out) == lab.outcome(undisturbed)


def test_the_third_column_is_the_right_answer(lab, halves, tmp_path):
    out = tmp_path / "run"
    ended = lab.run(tokens(lab, halves, out, **PIX2PIX, epochs=1, decay_epochs=0, data__load_size=32))
    assert ended.code == 0, ended.output
    assert "3 pairs: the left and the right half of each image" in ended.output
    assert "; 3 pairs, 3 images an epoch;" in ended.output
    grid = np.asarray(Image.open(Run(out).samples("ab")[-1][1]), dtype=float)
    whole = images.read(halves / "0.png")
    for column, half in ((0, whole[:, :20]), (2, whole[:, 20:])):
        shown = grid[:, 32 * column : 32 * column + 32]
        expected = images.resize(half.copy(), 32, 32)
        assert np.corrcoef(shown.mean(2).ravel(), expected.mean(2).ravel())[0, 1] > 0.9


def test_what_was_found_out_is_kept(lab, halves, tmp_path, command):
    out = tmp_path / "run"
    words = tokens(lab, halves, out, **PIX2PIX, epochs=1, decay_epochs=0)
    assert lab.run(words).code == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["b"] is None and config["data"]["paired"] is True
    assert config["data"]["labels_a"] is config["data"]["labels_b"] is False
    assert "finished" in command("train", "--resume", out).output
    assert "finished" in command(*words).output
    assert "3 to train on" in command(*words, "--dry-run").output
    other = command("train", "--resume", out, "--direction", "ba")
    assert other.code == 2 and "started with data.direction = ab, not ba" in other.output
    (halves / "1.png").unlink()
    changed = command("train", "--resume", out)
    assert changed.code == 2 and "A: 1.png was removed" in changed.output


def test_colourisation(lab, many, tmp_path, command):
    out, undisturbed, photos = tmp_path / "run", tmp_path / "undisturbed", many(tmp_path / "photos", 3)
    words = tokens(lab, photos, out, data__lab="true")
    assert lab.run(tokens(lab, photos, undisturbed, data__lab="true")).code == 0
    assert lab.run(words, ("after step", 5)).code == -signal.SIGKILL
    assert lab.run(words).code == 0
    assert lab.outcome(out) == lab.outcome(undisturbed)
    assert command("translate", out, photos, "-o", tmp_path / "coloured").code == 0
    photo, coloured = images.read(photos / "1.png"), images.read(tmp_path / "coloured" / "1.png")
    assert coloured.shape == photo.shape
    assert not np.array_equal(coloured, photo)
    grey = images.read(photos / "1.png", 1)
    for way, parts in (("ab", slice(0, 1)), ("ba", slice(1, 3))):
        translator = Translator.load(out, direction=way, device="cpu")
        assert translator(grey).shape == (20, 20, 3)
        kept = abs(to_lab(translator(photo))[..., parts].astype(int) - to_lab(photo)[..., parts])
        assert np.median(kept) <= 2  # what sRGB cannot hold is clipped
    grid = np.asarray(Image.open(Run(out).samples("ab")[-1][1]), dtype=int)
    left, middle = grid[:, :16], grid[:, 16:32]
    assert np.ptp(left, axis=2).mean() < 8 < np.ptp(middle, axis=2).mean()  # grey, then coloured


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "cyclegan takes two folders"),
        ({"data__pairs": "sides"}, "'sides' is neither `halves` nor two suffixes"),
        ({**PIX2PIX, "data__pairs": "png:jpg"}, "holds no X.png with an X.jpg"),
        ({**PIX2PIX, "data__val_b": "nowhere"}, "val_a and val_b go together"),
        ({**PIX2PIX, "data__val_a": "nowhere"}, "nowhere does not exist"),
        ({"data__lab": "true", "data__jitter": 0.1}, "jitter is for colours"),
    ],
)
def test_what_is_refused(lab, halves, tmp_path, command, changes, message):
    ended = command(*tokens(lab, halves, tmp_path / "run", **changes))
    assert ended.code == 2 and message in ended.output, ended.output
    assert ended.output.count("\n") == 1 and not (tmp_path / "run").exists()


def test_broken_pairs_are_refused_and_checked(lab, halves, tmp_path, command):
    images.write(np.zeros((20, 41, 3), np.uint8), halves / "odd.png")
    ended = command(*tokens(lab, halves, tmp_path / "run", **PIX2PIX))
    assert ended.code == 2 and "odd widths, which cannot be halved: odd.png (41 x 20)" in ended.output
    checked = command("data", "check", halves, "--paired", "--size", "16", "--test", tmp_path / "left")
    assert checked.code == 1 and "odd.png (41 x 20)" in checked.output
    (halves / "odd.png").unlink()
    checked = command("data", "check", halves, "--paired", "--size", "16", "--test", halves, "--json")
    found = json.loads(checked.output)
    assert checked.code == 0 and found["pairs"].startswith("3 pairs")
    tested = next(problem for problem in found["problems"] if problem["kind"] == "tested")
    assert tested["names"][0] == "0.png" and f"0.png = {halves / '0.png'}" in tested["text"]


@pytest.mark.parametrize("method", ["cyclegan", "fastcut"])
def test_masks_from_the_command_line(lab, many, tmp_path, method):
    masks, out, undisturbed = many(tmp_path / "masks", 3), tmp_path / "run", tmp_path / "undisturbed"
    room = "cyclegan" if method == "cyclegan" else "cut"
    changes = {"data__masks_a": masks, f"{room}__mask": 5, "method": method, "cut__layers": "0,4"}
    assert lab.run(lab.tokens(undisturbed, **changes)).code == 0
    assert lab.run(lab.tokens(out, **changes), ("after step", 5)).code == -signal.SIGKILL
    assert lab.run(["train", "--resume", str(out)]).code == 0
    assert lab.outcome(out) == lab.outcome(undisturbed)
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["losses"]["mask_a"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cyclegan__mask": 1}, "cyclegan.mask and masks go together"),
        ({"data__masks_a": "M"}, "cyclegan.mask and masks go together"),
        ({"data__masks_b": "M", "method": "cut"}, "cut cannot use these masks; leave out data.masks_b"),
        ({"data__masks_a": "M", "method": "pix2pix", "size": 32}, "pix2pix cannot use these masks"),
    ],
)
def test_masks_without_a_use_are_refused(lab, tmp_path, command, changes, message):
    ended = command(*lab.tokens(tmp_path / "run", **changes))
    assert ended.code == 2 and message in ended.output, ended.output


def test_two_folders_without_a_name_in_common(lab, many, tmp_path, command):
    a, b = many(tmp_path / "x", 2), many(tmp_path / "y", 2)
    for i in range(2):
        (b / f"{i}.png").rename(b / f"{i + 5}.png")
    ended = command("train", a, b, "--method", "pix2pix", "--size", "32", "--out", tmp_path / "run")
    assert ended.code == 2 and "so there are no pairs" in ended.output
