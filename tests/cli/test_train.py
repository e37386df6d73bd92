"""`twofold train`: runs, layers of settings, and what it refuses."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

import twofold
from twofold.cli.train import next_commands
from twofold.runs import Run
from twofold.training.settings import OptimSettings


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
        result = call(*command)
        assert (result.code, result.err) == (0, "")
        assert "is finished with 5 images" in result.out and f"twofold translate {made.run}" in result.out
    assert Run(made.run).newest_snapshot("ab").read_bytes() == weights


def test_a_dry_run_writes_nothing_at_all(unchanged, tiny, call, folders, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", str(folders / "cache"))
    with unchanged(folders):
        result = call("train", "A", "B", "--out", "run", *tiny(), "--dry-run")
    assert (result.code, result.err) == (0, "")
    for part in ("run:          run (new)", "A:            5 to train on", "parameters:", "memory:"):
        assert part in result.out
    assert "width: 2" in result.out
    with unchanged(folders):
        last = call("train", "A", "B", "--out", "run", *tiny(), "--dry-run", "--json").out.splitlines()[-1]
    assert json.loads(last)["config"]["generator"]["width"] == 2


def test_layers_stand_in_their_order(tiny, call, folders, monkeypatch):
    Path("mine.yaml").write_text("optim: {lr: 1e-3, beta1: 0.1}\nseed: 5\ngenerator: {width: 3}\n")
    monkeypatch.setenv("TWOFOLD_SET_OPTIM__BETA1", "0.2")
    monkeypatch.setenv("TWOFOLD_SET_GENERATOR__INIT", "xavier")
    monkeypatch.setenv("TWOFOLD_SET_CYCLEGAN__REPLAY", "7")
    options = tiny(preset="gan-forward", config="mine.yaml", seed=9, cyclegan__replay=3)
    assert call("train", "A", "B", "--out", "run", *options).code == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["preset"] == "gan-forward" and config["cyclegan"]["cycle_b"] == 0  # preset
    # file, environment, defaults
    changed = {"lr": 0.001, "beta1": 0.2}
    assert config["optim"] == OptimSettings().model_dump() | changed
    assert (
        config["generator"]["init"] == "xavier" and config["generator"]["width"] == 2
    )  # the command line last
    assert config["cyclegan"]["replay"] == 3 and config["seed"] == 9
    assert config["a"] == str(folders / "A") and config["data"]["val_a"] is None


def test_held_out_images_of_ones_own(tiny, call, folders, made):
    val = [str(made.pictures / name) for name in ("valA", "valB")]
    assert call("train", "A", "B", "--out", "run", *tiny(), "--val", *val).code == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())["data"]
    assert [config["val_a"], config["val_b"], config["hold_out"]] == [*val, True]
    result = call("train", "A", "B", "--out", "all", *tiny(), "--val", "none", "--dry-run")
    assert "hold_out: false" in result.out and "5 to train on, 0 held out" in result.out
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

    monkeypatch.setattr(loop, "start_or_resume", lambda *_, **_options: False)
    result = call("train", "A", "B", "--out", "run")
    assert result.code == 130 and result.out == "resume:     twofold train --resume run\n"


def test_folders_that_cannot_be_trained_on(tiny, refuses, folders):
    Path("empty").mkdir()
    Path("texts").mkdir()
    Path("texts/notes.txt").write_text("words")
    shutil.copytree("A", "B/inner")
    assert "does not exist" in refuses("train", "A", "nowhere", *tiny())
    assert "is not a folder" in refuses("train", "A", "texts/notes.txt", *tiny())
    assert "holds no images (no files)" in refuses("train", "A", "empty", *tiny())
    assert "holds no images (1 .txt)" in refuses("train", "texts", "B", *tiny())
    assert "given twice" in refuses("train", "A", "A", *tiny())
    assert "given twice" in refuses("train", "A", "B/../A", *tiny())
    assert "lies inside" in refuses("train", "B", "B/inner", *tiny())
    assert "is not empty and holds no run" in refuses("train", "A", "B", "--out", "texts", *tiny())
    assert "is inside the image folder" in refuses("train", "A", "B", "--out", "A/run", *tiny())
    assert "runs/A2B-cyclegan" not in [str(path) for path in Path().rglob("*")]


def test_a_folder_that_may_not_be_read(tiny, refuses, folders, monkeypatch):
    def walk(root, onerror, followlinks):
        onerror(PermissionError(errno.EACCES, "Permission denied", str(root)))
        yield str(root), [], []

    monkeypatch.setattr(os, "walk", walk)
    assert "cannot read the folder" in refuses("train", "A", "B", *tiny())


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
        ({"optim__lr": "fast"}, "--lr must be a number, not fast"),
        ({"optim__lrr": 1}, "Did you mean --optim.lr"),
        ({"generator__network": "resnet9"}, "did you mean resnet-9"),
        ({"method": "cyclgan"}, "did you mean cyclegan?"),
        ({"epochs": "nan"}, "epochs"),
        ({"batch": 1.5}, "--batch must be a whole number, not 1.5"),
        ({"seed": -1}, "--seed must be at least 0, not -1"),
    ],
)
def test_settings_that_cannot_be(tiny, refuses, folders, changes, message):
    assert message in refuses("train", "A", "B", "--out", "run", *tiny(**changes))


def test_old_names_of_settings_work_and_are_named(call, tiny, folders, monkeypatch):
    monkeypatch.setenv("TWOFOLD_SET_DISCRIMINATOR__ALSO", "[1]")
    options = tiny(optim__critic_lr=2, cyclegan__rehearsals=1)
    result = call("train", "A", "B", "--out", "run", *options, "--dry-run", "--json")
    plan = json.loads(result.out.splitlines()[-1])["config"]
    assert (plan["optim"]["disc_lr"], plan["cyclegan"]["recent_updates"]) == (2, 1)
    assert plan["discriminator"]["extra_layers"] == [1]
    assert result.code == 0 and result.err.splitlines() == [
        "twofold: --optim.critic-lr is called --optim.disc-lr now",
        "twofold: --cyclegan.rehearsals is called --cyclegan.recent-updates now",
        "twofold: TWOFOLD_SET_DISCRIMINATOR__ALSO is called TWOFOLD_SET_DISCRIMINATOR__EXTRA_LAYERS now",
    ]


def test_a_preset_may_be_named_in_the_environment(call, tiny, folders, monkeypatch):
    monkeypatch.setenv("TWOFOLD_SET_PRESET", "gan-forward")
    out = call("train", "A", "B", "--out", "run", *tiny(), "--dry-run", "--json").out
    plan = json.loads(out.splitlines()[-1])["config"]
    assert (plan["preset"], plan["cyclegan"]["cycle_b"]) == ("gan-forward", 0)


def test_short_and_long_names_are_one_setting(call, refuses, folders):
    result = call(
        "train",
        "A",
        "B",
        "--data.size",
        "32",
        "--lr=1e-3",
        "--data.no-cache",
        "--out",
        "run",
        "--dry-run",
        "--json",
    )
    plan = json.loads(result.out.splitlines()[-1])["config"]
    assert (plan["data"]["size"], plan["optim"]["lr"], plan["data"]["cache"]) == (32, 1e-3, False)
    assert "--size" in refuses("train", "A", "B", "--data.size", "32", "--size", "64")


def test_files_and_variables_with_wrong_settings(refuses, folders, monkeypatch):
    Path("typo.yaml").write_text("optim: {learning_rate: 1}\n")
    Path("list.yaml").write_text("- 1\n")
    Path("broken.yaml").write_text("optim: {lr: [\n")
    Path("code.yaml").write_text("seed: !!python/object/apply:os.mkdir [pwned]\n")
    Path("newer.yaml").write_text("format: 99\n")
    assert refuses("train", "A", "B", "-c", "typo.yaml").startswith(
        "typo.yaml: there is no setting optim.learn"
    )
    for name in ("list", "broken", "code", "newer"):
        assert f"{name}.yaml" in refuses("train", "A", "B", "-c", f"{name}.yaml")
    monkeypatch.setenv("TWOFOLD_SET_OPTIM__LRR", "1")
    assert "OPTIM__LRR: there is no setting optim.lrr; did you mean optim.lr" in refuses("train", "A", "B")
    monkeypatch.delenv("TWOFOLD_SET_OPTIM__LRR")
    monkeypatch.setenv("TWOFOLD_SET_METHOD", "cyclegn")
    assert "TWOFOLD_SET_METHOD: method must be cyclegan" in refuses("train", "A", "B")


def test_a_few_truncated_files_are_skipped_and_named(noise, tiny, call, folders):
    for i in range(20):
        noise(folders / "A" / f"more-{i}.jpg", 40, 40)
    whole = (folders / "A" / "more-3.jpg").read_bytes()
    (folders / "A" / "more-3.jpg").write_bytes(whole[: len(whole) // 2])
    result = call("train", "A", "B", "--out", "run", *tiny(epochs=0.1))
    assert result.code == 0 and "A: 1 of 25 files in" in result.out
    assert "cannot be read and are skipped: more-3.jpg" in " ".join(result.out.split())
    assert json.loads(Path("run/data.json").read_text())["a"]["files"]


def test_too_many_bad_files_stop_it(tiny, call, folders):
    (folders / "A" / "bad.jpg").write_bytes(b"\xff\xd8 no image")
    result = call("train", "A", "B", "--out", "run", *tiny())
    assert result.code == 1 and "only 5 of 6 files" in result.line and "bad.jpg" in result.line
    assert not Path("run").exists()


def test_commands_to_type_next_quote_a_folder_with_spaces(tmp_path):
    run = tmp_path / "my run"
    assert next_commands(run, finished=False) == [f"resume:     twofold train --resume '{run}'"]
    assert f"twofold translate '{run}' IMAGES" in next_commands(run, finished=True)[0]
