"""Dataset roots and folders as people have them, from the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from twofold.formats import images


def photo(rng, height=64, width=64):
    """A smooth picture with some noise."""
    y, x = np.mgrid[:height, :width]
    phase = rng.integers(20)
    waves = [np.sin(x / (9 + 2 * c) + phase) * np.cos(y / (7 + c) + phase) for c in range(3)]
    return np.clip(127 + 90 * np.stack(waves, 2) + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(
        np.uint8
    )


def pair(rng):
    one = photo(rng)
    return np.concatenate([one, 255 - one // 3], 1)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Write images into folders of the current folder: place(photo, "root/trainA", "root/trainB")."""
    monkeypatch.chdir(tmp_path)

    def write(kind, *folders, count=3, prefix="", suffix="png"):
        for number, folder in enumerate(folders):
            for i in range(count):
                images.write(kind(np.random.default_rng([number, i])), Path(folder) / f"{prefix}{i}.{suffix}")

    return write


@pytest.fixture
def planned(call, tiny):
    """What `train --dry-run` with these words would do: the printed lines, and its config."""

    def run(*words):
        result = call("train", *words, *tiny(), "--dry-run", "--json")
        assert result.code == 0, result.err
        plan = json.loads(result.out.splitlines()[-1])
        return result.out, plan["config"] | {"counts": (plan["A"], plan["B"])}

    return run


def used(config):
    """a, b, val_a and val_b of a config, relative to the current folder."""
    paths = [config["a"], config["b"], config["data"]["val_a"], config["data"]["val_b"]]
    return [path and Path(path).relative_to(Path.cwd()).as_posix() for path in paths]


CYCLEGAN = ("root/trainA", "root/trainB", "root/testA", "root/testB")
NESTED = ("root/A/train", "root/B/train", "root/A/test", "root/B/test")


def test_a_root_of_pairs(place, planned, call):
    place(pair, "root/train", "root/val", "root/test", count=4)
    said, config = planned("root", "--method", "pix2pix")
    assert used(config) == ["root/train", None, "root/val", None]
    assert config["counts"] == ("4 to train on, 4 held out, 0 skipped",) * 2
    assert "root: train is trained on, val is held out, test is not used" in said
    result = call("data", "check", "root", "--size", "32")
    assert result.code == 0
    for line in ("root: train is trained on, val is held out, test is not used", "train:      4 pairs"):
        assert line in result.out
    assert "held out:   4 pairs" in result.out and "test:       4 images in root/test" in result.out
    message = call("train", "root").line
    assert message.startswith("cyclegan takes two folders: `twofold train A B`, or a dataset root")
    assert "--method pix2pix" in message


@pytest.mark.parametrize("folders", [CYCLEGAN, NESTED])
def test_a_root_of_two_domains(place, planned, call, folders):
    place(photo, *folders)
    said, config = planned("root")
    assert used(config) == [*folders[:2], None, None]
    a, b, test_a, test_b = (folder.removeprefix("root/") for folder in folders)
    line = f"root: {a} and {b} are trained on, {test_a} and {test_b} are not used"
    assert line in " ".join(said.split()) and "3 to train on, 0 held out" in said
    assert used(planned("root", "--method", "pix2pix")[1]) == [*folders[:2], None, None]
    result = call("data", "check", "root")
    assert result.code == 0 and line in " ".join(result.out.split())
    assert "train:      A 3, B 3 images" in result.out and "test:       6 images in" in result.out


def test_two_roots(place, planned):
    place(photo, *NESTED)
    for words in ((), ("--method", "pix2pix")):
        said, config = planned("root/A", "root/B", *words)
        assert used(config) == ["root/A/train", "root/B/train", None, None]
        assert "A/test and B/test are not used" in " ".join(said.split())


def test_names_that_do_not_match_are_no_pairs(place, call, refuses):
    for folder in CYCLEGAN:
        place(photo, folder, prefix=f"{Path(folder).name}_")
    message = refuses("train", "root", "--method", "pix2pix")
    assert (
        "no name in" in message and "trainA_0.png, trainB_0.png" in message and "--method cyclegan" in message
    )
    result = call("data", "check", "root", "--paired")
    assert result.code == 1 and "so there are no pairs" in " ".join(result.out.split())
    assert call("data", "check", "root", "--paired", "--json").out.count('"ready": false') == 1


def test_an_explicit_val_wins(place, planned):
    place(photo, "root/trainA", "root/trainB", "root/valA", "root/valB", "x", "y")
    assert used(planned("root")[1])[2:] == ["root/valA", "root/valB"]
    said, config = planned("root", "--val", "x", "y")
    assert used(config)[2:] == ["x", "y"] and "valA and valB are not used" in " ".join(said.split())
    said, config = planned("root", "--val", "none")
    assert used(config)[2:] == [None, None] and config["data"]["hold_out"] is False
    assert "valA and valB are not used" in " ".join(said.split())


def test_photographs_are_not_cut_in_half(place, call, refuses, planned):
    place(photo, "photos")
    place(lambda rng: photo(rng, 64, 128), "wide", "list/train", suffix="jpg")
    for words in (["photos"], ["wide"]):
        message = refuses("train", *words, "--method", "pix2pix")
        assert "look like single photographs, not like pairs side by side" in message
        assert "`twofold train A B`" in message and "--pairs halves" in message
        assert call("data", "check", *words, "--paired").code == 1
        assert call("data", "check", *words).code == 0
    assert planned("photos", "--method", "pix2pix", "--pairs", "halves")[1]["counts"][0].startswith(
        "3 to train"
    )


def test_a_root_that_is_not_clear(place, call, refuses):
    place(photo, "root", "root/trainA", "root/trainB", "my half/trainA", "my half/testB")
    message = (
        "root holds 3 images beside the folders trainA and trainB; move the images into a folder of their own"
    )
    assert message in refuses("train", "root")
    assert "but no trainB; add it, or give two folders: `twofold train 'my half/trainA' OTHER`" in refuses(
        "train", "my half"
    )
    for root in ("root", "my half"):
        result = call("data", "check", root)
        assert result.code == 1 and "not ready" in result.out
    assert call("data", "check", "nowhere").code == 2


def test_junk_is_not_ready_made(place, call):
    place(photo, "junk", suffix="jpg", count=12)
    for name in (
        "Thumbs.db",
        "._0.jpg",
        "__MACOSX/0.jpg",
        "@eaDir/0.jpg",
        ".ipynb_checkpoints/0-checkpoint.jpg",
    ):
        path = Path("junk") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"junk")
    result = call("data", "check", "junk")
    assert result.code == 0 and "12 images, 3 channels" in result.out
    assert result.out.endswith(
        "no errors; to train, give the folder of the other domain too: `twofold train A B`\n"
    )
    assert "5 hidden or system files below" in " ".join(result.out.split())


def test_a_run_on_a_root_is_resumed_by_the_same_command(place, call, tiny):
    place(photo, "root/trainA", "root/trainB", "root/valA", "root/valB", "root/testA")
    words = ["train", "root", "--out", "run", *tiny()]
    result = call(*words)
    assert result.code == 0, result.err
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert used(config) == ["root/trainA", "root/trainB", "root/valA", "root/valB"]
    data = json.loads(Path("run/data.json").read_text())
    assert [data[side]["folder"] for side in "ab"] == [str(Path.cwd() / f"root/train{side}") for side in "AB"]
    assert [len(data[side]["val"]["files"]) for side in "ab"] == [3, 3] and "testA" not in json.dumps(data)
    for again in (words, ["train", "--resume", "run"], ["train", "root", "--resume", "run"]):
        result = call(*again)
        assert result.code == 0 and "is finished with 3 images" in result.out, result.err
    assert call("train", "root/trainA", "root/trainB", "--out", "run", *tiny()).code == 0
    place(photo, "same", "other/trainA", "other/trainB")
    assert "started with" in call("train", "other", "--resume", "run").line


def test_a_run_of_an_older_version_on_a_folder_with_splits_goes_on(place, call, tiny):
    """0.1 trained on everything below a folder; the run still does."""
    place(photo, "x/train", "x/test", "y")
    shutil.copytree("x", "plain/x1")
    assert call("train", "plain", "y", "--out", "run", *tiny()).code == 0
    for name in ("config.yaml", "data.json"):
        path = Path("run") / name
        text = path.read_text().replace(f"{Path.cwd()}/plain", f"{Path.cwd()}/x")
        path.write_text(text.replace("x1/", ""))
    result = call("train", "x", "y", "--out", "run", *tiny())
    assert result.code == 0 and "is finished" in result.out, result.err


def test_the_built_in_set_knows_its_answers(made, planned, monkeypatch, tmp_path):
    monkeypatch.chdir(made.pictures.parent)
    _, config = planned(str(made.pictures), "--method", "cyclegan", "--out", str(tmp_path / "run"))
    assert used(config)[2:] == ["seasons/valA", "seasons/valB"] and config["evaluation"]["metric"] == "psnr"
