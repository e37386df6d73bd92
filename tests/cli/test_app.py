"""The command line end to end, as a careful, a clumsy and a hostile stranger use it."""

import errno
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

import twofold
from twofold.cli import app as cli
from twofold.formats import images
from twofold.runs import Run

GOLDENS = Path(__file__).parents[1] / "goldens" / "networks.safetensors"

TINY = {
    "--size": "32",
    "--generator.width": "2",
    "--discriminator.width": "2",
    "--discriminator.layers": "1",
    "--machine.precision": "float32",
    "--machine.threads": "1",
    "--training.samples": "1",
    "--training.snapshot-every": "100",
    "--training.sample-every": "100",
    "--epochs": "1",
    "--decay-epochs": "0",
}


def tiny(**changes):
    """The options of a training that takes a second: one epoch of five images, or as `changes` say."""
    said = TINY | {
        f"--{name.replace('__', '.').replace('_', '-')}": str(value) for name, value in changes.items()
    }
    return [word for pair in said.items() for word in pair]


class Said(SimpleNamespace):
    """What a command gave back: code, out, err."""

    @property
    def line(self):
        """The one line on standard error."""
        assert self.err.startswith("twofold: ") and self.err.count("\n") == 1, self.err
        return self.err.removeprefix("twofold: ").rstrip()


@pytest.fixture
def call(capsys):
    """Run a command in this process: call("train", "A", "B").code."""

    def make(*tokens):
        capsys.readouterr()
        code = cli.run([str(token) for token in tokens])
        return Said(code=code, **capsys.readouterr()._asdict())

    return make


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The built-in pictures and a run on them, made by commands: made.pictures, made.run, made.again."""
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOFOLD_CACHE", str(home / "cache"))
        assert (
            cli.run(["data", "make", "seasons", str(home / "seasons"), "--count", "5", "--size", "32"]) == 0
        )
        command = ["train", *(str(home / "seasons" / name) for name in ("trainA", "trainB"))]
        command += ["--out", str(home / "run"), *tiny()]
        assert cli.run(command) == 0
    return SimpleNamespace(pictures=home / "seasons", run=home / "run", command=command, cache=home / "cache")


@pytest.fixture
def folders(made, tmp_path, monkeypatch):
    """Copies of both training folders in a current folder of one's own: A and B."""
    monkeypatch.chdir(tmp_path)
    for name in "AB":
        shutil.copytree(made.pictures / f"train{name}", tmp_path / name)
    return tmp_path


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def opened(path):
    """The picture in a file, and the file closed again."""
    with Image.open(path) as picture:
        picture.load()
        return picture


def noise(path, height=20, width=24, channels=3):
    rng = np.random.default_rng(len(str(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(rng.integers(0, 256, (height, width, channels), dtype=np.uint8), path)
    return path


# ---- the main road


def test_a_training_leaves_all_it_promises(made):
    run = Run(made.run)
    for path in (run.config, run.data, run.env, run.metrics, run.report):
        assert path.stat().st_size > 0
    assert [n for n, _ in run.snapshots("ab")] == [n for n, _ in run.snapshots("ba")] == [5]
    assert [n for n, _ in run.states()] == [5]
    assert run.samples("ab") and run.samples("ba")


def test_the_same_command_again_says_it_is_finished(made, call, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", str(made.cache))
    weights = Run(made.run).newest_snapshot("ab").read_bytes()
    for command in (made.command, ["train", "--resume", made.run]):
        said = call(*command)
        assert (said.code, said.err) == (0, "")
        assert "is finished with 5 images" in said.out and f"twofold translate {made.run}" in said.out
    assert Run(made.run).newest_snapshot("ab").read_bytes() == weights


def test_translate_a_folder(made, call, tmp_path):
    source = made.pictures / "testA"
    said = call("translate", made.run, source, "-o", tmp_path / "out", "--precision", "float32")
    assert (said.code, said.err) == (0, "")
    assert said.out == f"4 of 4 images translated to {tmp_path / 'out'}\n"
    translator = twofold.Translator.load(made.run)
    for path in images.find(source):
        result = np.array(opened(tmp_path / "out" / path.name))
        assert np.array_equal(result, np.array(translator(path)))
    assert len(images.find(tmp_path / "out")) == 4


def test_info_of_a_run_and_of_a_model(made, call):
    text = call("info", made.run).out
    assert "000000005-ab.safetensors" in text and "network resnet" in text and "origin:" in text
    assert max(map(len, (line for line in text.splitlines() if "/" not in line))) <= 80
    facts = json.loads(call("info", made.run, "--direction", "ba", "--json").out)
    assert (facts["direction"], facts["size"], facts["method"]) == ("ba", 32, "cyclegan")
    assert facts["states"] == [5] and facts["metrics"]["images"] == 5
    file = Run(made.run).newest_snapshot("ab")
    facts = json.loads(call("info", file, "--json").out)
    assert (facts["model"], facts["origin"]) == (str(file), {"images": 5, "method": "cyclegan"})


def test_info_of_a_run_that_has_no_model_yet(made, call, tmp_path):
    shutil.copy(made.run / "config.yaml", tmp_path)
    said = call("info", tmp_path, "--json")
    assert said.code == 0 and json.loads(said.out)["states"] == []


def test_report_is_written_anew(made, call, tmp_path):
    run = shutil.copytree(made.run, tmp_path / "run")
    (run / "report.html").unlink()
    said = call("report", run)
    assert (said.code, said.out) == (0, f"{run / 'report.html'}\n")
    assert "<html" in (run / "report.html").read_text()


def test_presets_are_listed_with_their_sources(call):
    assert "  cycle-alone             both cycles, no critics\n" in call("presets").out
    text = call("presets", "gan-forward").out
    assert "arXiv 1703.10593, §5.1.4" in text and "\n--cyclegan.cycle-b 0\n" in text
    assert call("presets", "gan-foward").line == "there is no preset gan-foward; did you mean gan-forward?"


def test_data_check_reads_calmly(made, call, folders, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TWOFOLD_CACHE", str(folders / "cache"))
    (folders / "A" / "bad.jpg").write_bytes(b"no image")
    shutil.copy(folders / "A" / "summer-00000.png", folders / "B" / "same.png")
    before = everything(folders)
    said = call("data", "check", "A", "B", "--size", "32")
    assert said.code == 1  # five of six decode, which training would refuse
    assert "A  " in said.out and "   5 images (1 bad), 3 channels, all 32 × 32 px\n" in said.out
    assert "bad.jpg" in said.out and "1 image of A in B as well" in said.out
    assert said.out.rstrip().endswith("not ready: training would refuse this")
    assert max(map(len, (line for line in said.out.splitlines() if str(folders) not in line))) <= 80
    assert everything(folders) == before
    found = json.loads(call("data", "check", "A", "B", "--size", "32", "--json").out)
    assert found["ready"] is False and found["a"]["bad"][0][0] == "bad.jpg" and found["b"]["good"] == 6
    assert call("data", "check", made.pictures / "trainA", "--size", "32").code == 0


def test_make_seasons_refuses_what_it_cannot(call, made, tmp_path):
    assert "not an empty folder" in call("data", "make", "seasons", made.pictures).line
    assert "at least 1" in call("data", "make", "seasons", tmp_path / "x", "--count", "0").line
    assert list(tmp_path.iterdir()) == []


# ---- train: what it is told, and what it refuses


def test_a_dry_run_writes_nothing_at_all(call, folders, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", str(folders / "cache"))
    before = everything(folders)
    said = call("train", "A", "B", "--out", "run", *tiny(), "--dry-run")
    assert (said.code, said.err) == (0, "")
    for part in ("run:          run (new)", "A:            5 to train on", "parameters:", "memory:"):
        assert part in said.out
    assert "width: 2" in said.out
    last = call("train", "A", "B", "--out", "run", *tiny(), "--dry-run", "--json").out.splitlines()[-1]
    assert json.loads(last)["config"]["generator"]["width"] == 2
    assert everything(folders) == before


def test_layers_stand_in_their_order(call, folders, monkeypatch):
    Path("mine.yaml").write_text("optim: {lr: 1e-3, beta1: 0.1}\nseed: 5\ngenerator: {width: 3}\n")
    monkeypatch.setenv("TWOFOLD_SET_OPTIM__BETA1", "0.2")
    monkeypatch.setenv("TWOFOLD_SET_GENERATOR__INIT", "xavier")
    monkeypatch.setenv("TWOFOLD_SET_CYCLEGAN__REPLAY", "7")
    options = tiny(preset="gan-forward", config="mine.yaml", seed=9, cyclegan__replay=3)
    assert call("train", "A", "B", "--out", "run", *options).code == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["preset"] == "gan-forward" and config["cyclegan"]["cycle_b"] == 0  # preset
    # file, environment, defaults
    assert config["optim"] == {"lr": 0.001, "beta1": 0.2, "beta2": 0.999, "disc_lr": 1.0}
    assert (
        config["generator"]["init"] == "xavier" and config["generator"]["width"] == 2
    )  # the command line last
    assert config["cyclegan"]["replay"] == 3 and config["seed"] == 9
    assert config["a"] == str(folders / "A") and config["data"]["val_a"] is None


def test_held_out_images_of_ones_own(call, folders, made):
    val = [str(made.pictures / name) for name in ("valA", "valB")]
    assert call("train", "A", "B", "--out", "run", *tiny(), "--val", *val).code == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())["data"]
    assert [config["val_a"], config["val_b"], config["hold_out"]] == [*val, True]
    said = call("train", "A", "B", "--out", "all", *tiny(), "--val", "none", "--dry-run")
    assert "hold_out: false" in said.out and "5 to train on, 0 held out" in said.out
    assert "--val takes two folders" in call("train", "A", "B", "--val", "A").line
    assert "--val takes two folders" in call("train", "A", "B", "--val", "A", "B", "C").line
    assert "--val takes two folders" in call("train", "--val", "none", "A", "B").line


def test_python_trains_and_translates_alike(folders):
    settings = {
        "generator": {"width": 2},
        "discriminator": {"width": 2, "layers": 1},
        "machine": {"precision": "float32", "threads": 1},
        "training": {"samples": 1, "snapshot_every": 100},
    }
    lines = []
    run = twofold.train(
        "A", "B", out="run", size=32, epochs=0.6, decay_epochs=0, settings=settings, notify=lines.append
    )
    assert run.path == Path("run") and any("training: cyclegan" in line for line in lines)
    result = twofold.Translator.load(run.path)("A/summer-00001.png")
    assert isinstance(result, Image.Image) and result.size == (32, 32)
    with pytest.raises(twofold.UsageError, match="width"):
        twofold.train("A", "B", out="run", settings={"generator": {"width": 4}})


def test_an_interrupted_training_says_how_to_go_on(call, folders, monkeypatch):
    from twofold.training import train as loop

    monkeypatch.setattr(loop, "train", lambda *_: False)
    said = call("train", "A", "B", "--out", "run")
    assert said.code == 130 and said.out == "go on:      twofold train --resume run\n"


def refuses(call, *tokens, code=2):
    """The one line with which a command is refused, after which all is as before."""
    before = everything(Path())
    said = call(*tokens)
    assert said.code == code and "Traceback" not in said.err
    line = said.line
    assert everything(Path()) == before, "something was written"
    return line


def test_folders_that_cannot_be_trained_on(call, folders):
    Path("empty").mkdir()
    Path("texts").mkdir()
    Path("texts/notes.txt").write_text("words")
    shutil.copytree("A", "B/inner")
    assert "does not exist" in refuses(call, "train", "A", "nowhere", *tiny())
    assert "is not a folder" in refuses(call, "train", "A", "texts/notes.txt", *tiny())
    assert "holds no images (0 other files)" in refuses(call, "train", "A", "empty", *tiny())
    assert "holds no images (1 other file)" in refuses(call, "train", "texts", "B", *tiny())
    assert "given twice" in refuses(call, "train", "A", "A", *tiny())
    assert "given twice" in refuses(call, "train", "A", "B/../A", *tiny())
    assert "lies inside" in refuses(call, "train", "B", "B/inner", *tiny())
    assert "is not empty and holds no run" in refuses(call, "train", "A", "B", "--out", "texts", *tiny())
    assert "is inside the image folder" in refuses(call, "train", "A", "B", "--out", "A/run", *tiny())
    assert "runs/A2B-cyclegan" not in [str(path) for path in Path().rglob("*")]


def test_a_folder_that_may_not_be_read(call, folders, monkeypatch):
    def walk(root, onerror, followlinks):
        onerror(PermissionError(errno.EACCES, "Permission denied", str(root)))
        yield str(root), [], []

    monkeypatch.setattr(images.os, "walk", walk)
    assert "cannot read the folder" in refuses(call, "train", "A", "B", *tiny())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 64, "data__resize": "crop"}, "smaller than the crop"),
        ({"size": 30}, "multiples of 4"),
        ({"size": 40, "generator__network": "unet"}, "multiple of 32"),
        ({"size": 64, "generator__network": "unet-128"}, "multiples of 128"),
        ({"size": 4}, "needs a height and width"),
        ({"size": 8, "discriminator__layers": 6}, "discriminator needs a height and width"),
        ({"size": 16, "discriminator__extra_layers": "3"}, "discriminator needs a height and width"),
        (
            {"discriminator__network": "pixel", "discriminator__extra_layers": "1"},
            "discriminator.extra_layers is for patch",
        ),
        ({"cyclegan__recent_updates": 1, "data__resize": "none"}, "images of one size"),
        ({"data__load_size": 16}, "load_size"),
        ({"data__val_a": "A"}, "val_a and val_b go together"),
        ({"epochs": 0}, "nothing to train"),
        ({"device": "gpu"}, "there is no device"),
        ({"device": "cuda:99"}, "not on this machine"),
        ({"config": "nowhere.yaml"}, "nowhere.yaml"),
        ({"config": "A/summer-00000.png"}, "cannot read settings"),
        ({"preset": "cycle"}, "did you mean cyclegan"),
        ({"optim__lr": "fast"}, "optim.lr"),
        ({"optim__lrr": 1}, "Did you mean --optim.lr"),
        ({"generator__network": "resnet9"}, "did you mean resnet-9"),
        ({"method": "cyclgan"}, "Did you mean"),
        ({"epochs": "nan"}, "epochs"),
        ({"batch": 1.5}, "no whole number"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_cannot_be(call, folders, changes, message):
    assert message in refuses(call, "train", "A", "B", "--out", "run", *tiny(**changes))


def test_files_and_variables_with_wrong_settings(call, folders, monkeypatch):
    Path("typo.yaml").write_text("optim: {learning_rate: 1}\n")
    Path("list.yaml").write_text("- 1\n")
    Path("broken.yaml").write_text("optim: {lr: [\n")
    Path("code.yaml").write_text("seed: !!python/object/apply:os.mkdir [pwned]\n")
    Path("newer.yaml").write_text("format: 99\n")
    assert "optim.learning_rate" in refuses(call, "train", "A", "B", "-c", "typo.yaml")
    for name in ("list", "broken", "code", "newer"):
        assert f"{name}.yaml" in refuses(call, "train", "A", "B", "-c", f"{name}.yaml")
    monkeypatch.setenv("TWOFOLD_SET_OPTIM__LRR", "1")
    assert "optim.lrr; did you mean optim.lr" in refuses(call, "train", "A", "B")


def test_a_few_truncated_files_are_skipped_and_named(call, folders):
    for i in range(20):
        noise(folders / "A" / f"more-{i}.jpg", 40, 40)
    whole = (folders / "A" / "more-3.jpg").read_bytes()
    (folders / "A" / "more-3.jpg").write_bytes(whole[: len(whole) // 2])
    said = call("train", "A", "B", "--out", "run", *tiny(epochs=0.1))
    assert said.code == 0 and "skipped more-3.jpg" in said.out and "skipped 1 of 25 files" in said.out
    assert json.loads(Path("run/data.json").read_text())["a"]["files"]


def test_too_many_bad_files_stop_it(call, folders):
    (folders / "A" / "bad.jpg").write_bytes(b"\xff\xd8 no image")
    said = call("train", "A", "B", "--out", "run", *tiny())
    assert said.code == 1 and "only 5 of 6 files" in said.line and "bad.jpg" in said.line
    assert not Path("run").exists()


# ---- translate


@pytest.fixture
def model(made, tmp_path, monkeypatch):
    """A trained model, alone in a current folder of one's own."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(Run(made.run).newest_snapshot("ab"), "model.safetensors")
    return Path("model.safetensors")


def test_every_kind_of_picture_comes_back_at_its_size(call, model):
    rng = np.random.default_rng(0)
    sizes = {"one": (1, 1), "flat": (3, 200), "odd": (33, 35), "wide": (20, 70)}
    for name, (height, width) in sizes.items():
        noise(Path(f"in/{name}.png"), height, width)
    Path("in/deep").mkdir()
    noise(Path("in/deep/one.jpg"), 9, 12)
    noise(Path("in/grey.png"), 10, 11, 1)
    noise(Path("in/alpha.png"), 10, 11, 4)
    Image.fromarray(rng.integers(0, 256, (10, 11, 4), dtype=np.uint8), "CMYK").save("in/cmyk.jpg")
    Image.fromarray(rng.integers(0, 2**16, (10, 11), dtype=np.uint16)).save("in/deep16.png")
    np.save("in/array.npy", rng.integers(0, 256, (10, 11, 3), dtype=np.uint8))
    said = call("translate", model, "in", "-o", "out")
    assert (said.code, said.err) == (0, "")
    found = {path.relative_to("out").as_posix(): opened(path) for path in images.find("out")}
    assert {name: found[f"{name}.png"].size for name in sizes} == {n: (w, h) for n, (h, w) in sizes.items()}
    assert found["deep/one.png"].size == (12, 9)
    rest = ("grey", "alpha", "cmyk", "deep16", "array")
    assert all((found[f"{name}.png"].size, found[f"{name}.png"].mode) == ((11, 10), "RGB") for name in rest)


def test_formats_scales_and_a_named_result(call, model):
    noise(Path("x.png"))
    for suffix, kind in (("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")):
        assert call("translate", model, "x.png", "-o", "out", "--format", suffix).code == 0
        assert opened(f"out/x.{suffix}").format == kind
    for at in ("trained", "native", "17"):
        said = call("translate", model, "x.png", "-o", f"{at}.png", "--at", at)
        assert said.code == 0 and said.out == f"1 of 1 images translated to {at}.png\n"
    results = [np.array(opened(f"{at}.png")) for at in ("trained", "native", "17")]
    assert not np.array_equal(results[0], results[1]) and not np.array_equal(results[1], results[2])


def test_bad_inputs_are_named_and_the_others_done(call, model):
    noise(Path("in/a.png"))
    noise(Path("in/z.png"))
    whole = noise(Path("in/cut.jpg"), 90, 90).read_bytes()
    Path("in/cut.jpg").write_bytes(whole[: len(whole) // 2])
    Path("in/text.png").write_text("no image")
    np.save("in/five.npy", np.zeros((4, 4, 5), np.uint8))
    said = call("translate", model, "in", "-o", "out")
    assert said.code == 3 and said.out == "2 of 5 images translated to out\n"
    lines = said.err.splitlines()
    assert len(lines) == 3 and all(line.startswith("twofold: skipped in/") for line in lines)
    assert sorted(re.findall(r"skipped in/(\S+):", said.err)) == ["cut.jpg", "five.npy", "text.png"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "z.png"]


def test_nothing_but_bad_inputs_is_a_failure(call, model):
    Path("text.png").write_text("no image")
    said = call("translate", model, "text.png", "-o", "out")
    assert said.code == 1 and "skipped text.png: not an image" in said.err


def test_translate_refuses_in_one_line(call, model):
    noise(Path("in/a.png"))
    Path("file").write_text("x")
    Path("empty").mkdir()
    assert "nothing to translate" in refuses(call, "translate", model, "-o", "out")
    assert "there is no nowhere" in refuses(call, "translate", model, "nowhere", "-o", "out")
    assert "there is no model nowhere" in refuses(call, "translate", "nowhere", "in", "-o", "out")
    assert "holds no ab snapshot" in refuses(call, "translate", "in", "in", "-o", "out")
    assert "holds no images" in refuses(call, "translate", model, "empty", "-o", "out")
    assert "would be overwritten" in refuses(call, "translate", model, "in", "-o", "in")
    assert "translates ab, not ba" in refuses(
        call, "translate", model, "in", "-o", "out", "--direction", "ba"
    )
    assert "'big' is neither" in refuses(call, "translate", model, "in", "-o", "out", "--at", "big")
    assert "neither" in refuses(call, "translate", model, "in", "-o", "out", "--at", "0")
    assert "there is no device" in refuses(call, "translate", model, "in", "-o", "out", "--device", "gpu")
    assert "file" in refuses(call, "translate", model, "in", "-o", "file", code=1)
    assert "file" in refuses(call, "translate", model, "in", "-o", "file/deep", code=1)
    assert "end its name" in refuses(call, "translate", model, "in/a.png", "-o", "x.bmp")


def test_a_full_disk_stops_at_once_and_leaves_nothing(call, model, monkeypatch):
    for i in range(5):
        noise(Path(f"in/{i}.png"))

    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    said = call("translate", model, "in", "-o", "out")
    assert said.code == 1 and said.line == "cannot write out/0.png: No space left on device"
    assert list(Path("out").iterdir()) == []


def test_a_picture_over_the_memory_is_refused_naming_at(call, model, monkeypatch):
    from twofold import hardware

    noise(Path("x.png"), 300, 400)
    monkeypatch.setattr(hardware, "free_memory", lambda device: 2**20)
    said = call("translate", model, "x.png", "-o", "out", "--at", "native")
    assert said.code == 1 and re.search(r"skipped x.png: 400×300 pixels need .*--at \d+ would fit", said.err)
    assert call("translate", model, "x.png", "-o", "out").code == 0  # at the scale of the training it fits


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_models_of_other_channel_counts(call, tmp_path, monkeypatch, channels):
    from twofold.networks.registry import describe
    from twofold.networks.resnet import ResnetGenerator
    from twofold.translation.model import Header, save

    monkeypatch.chdir(tmp_path)
    network = ResnetGenerator(channels, channels, width=2, blocks=1)
    save(network, Header(describe(network), "ab", None), Path("model.safetensors"))
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (9, 10, channels), dtype=np.uint8))
    said = call("translate", "model.safetensors", "x.npy", "-o", "out")
    assert said.code == 0, said.err
    if channels == 5:
        result = np.load("out/x.npy")
        assert result.shape == (9, 10, 5) and result.dtype == np.uint8
        said = call("translate", "model.safetensors", "x.npy", "-o", "out", "--format", "png")
        assert said.code == 2 and ".png does not hold 5 channels; use .npy" in said.line
    else:
        assert opened("out/x.png").mode == {1: "L", 4: "RGBA"}[channels]


def test_damaged_and_foreign_models_are_refused(call, model, made):
    noise(Path("in/a.png"))
    torch.save({"x": torch.zeros(1)}, "net.pth")
    assert "twofold import net.pth" in refuses(call, "translate", "net.pth", "in", "-o", "out")
    whole = model.read_bytes()
    Path("cut.safetensors").write_bytes(whole[:-9])
    assert "copy it again" in refuses(call, "translate", "cut.safetensors", "in", "-o", "out", code=1)
    assert "copy it again" in refuses(call, "info", "cut.safetensors", code=1)
    Path("newer.safetensors").write_bytes(whole.replace(rb"\"format\": 1", rb"\"format\": 9"))
    assert "update twofold" in refuses(call, "translate", "newer.safetensors", "in", "-o", "out", code=1)


# ---- import


def golden(case):
    with safe_open(GOLDENS, "pt") as file:
        names = [name for name in file.keys() if name.startswith(f"{case}/")]  # noqa: SIM118
        return {name.removeprefix(f"{case}/"): file.get_tensor(name) for name in names}


@pytest.mark.parametrize("case", ["G0", "G1", "G4", "G5", "G6"])
def test_an_imported_model_translates_as_the_original(call, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    state = golden(case)
    given, expected = state.pop("input")[0], images.to_uint8(state.pop("output")[:1])[0]
    torch.save(state, "latest_net_G_A.pth")
    images.write(given.permute(1, 2, 0).numpy(), "x.png")
    assert call("import", "latest_net_G_A.pth", "-o", "model.safetensors").code == 0
    exact = ["--precision", "float32"]
    assert call("translate", "model.safetensors", "x.png", "-o", "y.png", *exact).code == 0
    result = images.read("y.png")
    difference = np.abs(result.astype(int) - expected.permute(1, 2, 0).numpy())
    # Without norms the last bits of float32 grow to two levels, and the golden is float32 too.
    assert result.std() > 0 and difference.max() <= (2 if case == "G6" else 1)
    facts = json.loads(call("info", "model.safetensors", "--json").out)
    assert (facts["size"], facts["origin"]) == (None, {"imported": "junyanz"})


class Hostile:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def test_import_refuses_what_it_should(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model.1.weight": Hostile()}, "hostile.pth")
    Path("damaged.pth").write_bytes(b"no checkpoint")
    torch.save({"weight": torch.zeros(1)}, "other.pth")
    to = ["-o", "model.safetensors"]
    assert "could run code" in refuses(call, "import", "hostile.pth", *to, code=1)
    assert "damaged" in refuses(call, "import", "damaged.pth", *to, code=1)
    assert "not those of a CycleGAN" in refuses(call, "import", "other.pth", *to, code=1)
    assert "there is no file" in refuses(call, "import", "nowhere.pth", *to)
    assert "-o model.safetensors" in refuses(call, "import", "other.pth", "-o", "model.pth")
    assert "'x' is no whole number" in refuses(call, "import", "other.pth", *to, "--size", "x")
    assert "--size is 0" in refuses(call, "import", "other.pth", *to, "--size", "0")


# ---- the parser and the exit codes


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("trian A B", 'Did you mean "train"'),
        ("train A", "cyclegan takes two folders: `twofold train A B`"),
        ("train A B C", "too many arguments: C; see `twofold train --help`"),
        ("train --resume run --out run", "leave out --out"),
        ("train --resume nowhere", "there is no run in nowhere"),
        ("translate", "MODEL is missing; see `twofold translate --help`"),
        ("translate m", "--out is missing"),
        ("translate m x -o y --format gif", 'Choose from: "png"'),
        ("translate m x -o y --directon ba", "Did you mean --direction"),
        ("info", "MODEL is missing"),
        ("info nowhere", "there is no model nowhere"),
        ("info . --direction up", 'Choose from: "ab", "ba"'),
        ("report nowhere", "there is no run in nowhere"),
        ("data chekc A", 'Did you mean "check"'),
        ("data check", "A is missing"),
        ("data check nowhere", "does not exist"),
        ("data check . --size 0", "size cannot be 0"),
        ("data make winter out", "seasons"),
        ("data make seasons out --count many", "no whole number"),
        ("--nonsense", "--nonsense"),
    ],
)
def test_a_wrong_command_is_one_line_and_code_2(call, tmp_path, monkeypatch, tokens, message):
    monkeypatch.chdir(tmp_path)
    assert message in refuses(call, *tokens.split())


@pytest.mark.parametrize(
    "verb",
    [
        "",
        "train",
        "translate",
        "evaluate",
        "info",
        "import",
        "report",
        "presets",
        "demo",
        "data",
        "data check",
        "data make",
        "data download",
    ],
)
def test_help_fits_and_explains_every_option(call, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "80")
    said = call(*verb.split(), "--help")
    assert (said.code, said.err) == (0, "")
    assert max(len(line.rstrip()) for line in said.out.splitlines()) <= 80
    assert "Usage: twofold " + verb in said.out
    rows = re.findall(r"│ \*? *(--[\w.-]+(?: -\w)?(?: [A-Z.|]+)?) *│", said.out)
    alone = [
        row for row in rows if "-every" not in row and ".no-" not in row
    ]  # the second halves of long names
    assert not alone, "an option without a word of help"
    assert "--no-json" not in said.out and "--empty" not in said.out


@pytest.mark.parametrize(
    ("place", "sentence"),
    [pair for some in (cli.COMMANDS, cli.DATA_COMMANDS) for pair in some.items()],
    ids=lambda x: x.partition(":")[2],
)
def test_help_says_of_each_command_what_its_docstring_does(place, sentence):
    module, _, name = place.partition(":")
    function = getattr(importlib.import_module(f"twofold.{module}"), name)
    assert inspect.getdoc(function).partition("\n\n")[0] == sentence


def test_no_command_is_help(call):
    said = call()
    assert said.code == 0 and said.out == call("--help").out and "translate" in said.out
    assert call("data").out == call("data", "--help").out
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", call("--version").out)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "locked/x"),
            1,
            "cannot use locked/x: Permission denied",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "cannot use the disk: No space left on device"),
        (MemoryError(), 1, "the memory is full: a smaller --size, --batch or --at takes less"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (twofold.TwofoldError("two\nlines"), 1, "two lines"),
        (twofold.UsageError("wrong"), 2, "wrong"),
    ],
)
def test_every_error_is_a_line_and_a_code(call, monkeypatch, error, code, line):
    def raises(run):
        raise error

    monkeypatch.setattr("twofold.reporting.report.write_report", raises)
    monkeypatch.setattr(Run, "exists", True)
    said = call("report", "run")
    assert (said.code, said.line, said.out) == (code, line, "")


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m twofold presets | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode in (0, 1) and done.stderr == ""


def test_a_terminal_of_few_letters_is_no_error():
    done = subprocess.run(
        [sys.executable, "-m", "twofold", "presets"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0 and done.stderr == b"" and b"cycle A\\u2192B" in done.stdout


def test_names_that_no_encoding_holds(call, model):
    Path("in").mkdir()
    Path(os.fsdecode(b"in/\xff\x1b[2J.png")).write_text("no image")
    said = call("translate", model, "in", "-o", "out")
    assert said.code == 1 and not {"\x1b", "\udcff"} & {*said.out}
    assert said.line.startswith("skipped in/\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2J.png")


def test_reading_images_in_threads_leaves_the_training_its_own(tmp_path):
    """In a new process, for torch counts threads once; decoding came first there, and left one to the training."""
    for side in "ab":
        for i in range(3):
            images.write(np.full((40, 40, 3), 40 * i, np.uint8), tmp_path / side / f"{i}.png")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "twofold",
            "train",
            "a",
            "b",
            "--size",
            "32",
            "--dry-run",
            "--no-cache",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "2", "TWOFOLD_CACHE": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "  threads: 2\n" in done.stdout
