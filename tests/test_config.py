"""Layers and their precedence, messages about wrong settings, YAML, and what a resumed run may change."""

import re
from pathlib import Path

import pytest
import yaml

from twofold import config
from twofold.cli import app as cli
from twofold.config import (
    Config,
    Loader,
    compose,
    flatten,
    from_environment,
    from_file,
    merge,
    moved,
    nest,
    resume,
)
from twofold.errors import UsageError
from twofold.presets import PRESETS
from twofold.training import train as loop

FOLDERS = {"a": Path("/images/a"), "b": Path("/images/b")}


def message_for(layer, **settings):
    with pytest.raises(UsageError) as caught:
        compose(FOLDERS, layer, settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- layers


def test_later_layers_win():
    layers = [{"optim": {"lr": number, f"beta{number}": 0.1 * number}} for number in (1, 2)]
    assert merge(*layers) == {"optim": {"lr": 2, "beta1": 0.1, "beta2": 0.2}}
    assert merge({"a": {"b": 1}}, {"a": 2}) == {"a": 2}
    assert merge({"a": 2}, {"a": {"b": 1}}) == {"a": {"b": 1}}


def test_nest_is_the_inverse_of_flatten():
    layer = {"seed": 1, "optim": {"lr": 1e-4, "beta1": 0.5}, "data": {"size": 8}}
    assert nest(dict(flatten(layer))) == layer
    assert nest({"optim": 3, "optim.lr": 1}) == {"optim": {"lr": 1}}


def test_command_line_over_environment_over_file_over_preset(tmp_path, monkeypatch):
    """Each layer sets all that the ones above it leave."""
    file = tmp_path / "settings.yaml"
    file.write_text("training: {epochs: 2, decay_epochs: 2, ema: 2}\ndata: {size: 32}\n")
    monkeypatch.setenv("TWOFOLD_SET_TRAINING__DECAY_EPOCHS", "3")
    monkeypatch.setenv("TWOFOLD_SET_TRAINING__EMA", "3")
    heard = {}

    def listen(out, overrides, *_, **_options):
        heard.update(overrides)
        return True

    monkeypatch.setattr(loop, "start_or_resume", listen)
    tokens = ["train", "A", "B", "--preset", "seasons", "-c", str(file), "--training.ema", "4"]
    assert cli.run(tokens) == 0
    found = compose(heard)
    preset = PRESETS["seasons"].settings
    assert found.generator.width == preset["generator"]["width"]
    assert (found.data.size, found.data.load_size) == (
        32,
        preset["data"]["load_size"],
    )  # the file's, the preset's
    assert found.training.epochs == 2  # the file's
    assert found.training.decay_epochs == 3  # the environment's
    assert found.training.ema == 4  # the command line's
    assert found.optim.beta2 == 0.999  # nobody's
    assert found.preset == "seasons"


def test_the_preset_that_is_asked_for_is_the_one_that_is_noted(tmp_path, monkeypatch):
    file = tmp_path / "settings.yaml"
    file.write_text("preset: seasons\ndata: {size: 32}\n")
    heard = []
    monkeypatch.setattr(
        loop,
        "start_or_resume",
        lambda out, overrides, *_, **_options: heard.append(compose(overrides)) or True,
    )
    for preset in ([], ["--preset", "horse2zebra"]):
        assert cli.run(["train", "A", "B", "-c", str(file), *preset]) == 0
    assert [found.preset for found in heard] == ["seasons", "horse2zebra"]
    widths = [PRESETS["seasons"].settings["generator"]["width"], 64]
    assert [found.generator.width for found in heard] == widths
    assert [found.data.size for found in heard] == [32, 32]


def test_environment():
    environ = {
        "TWOFOLD_SET_OPTIM__LR": "1e-4",
        "TWOFOLD_SET_DATA__FLIP": "false",
        "TWOFOLD_SET_DATA__LOAD_SIZE": "null",
        "TWOFOLD_SET_SEED": "3",
        "TWOFOLD_CACHE": "/elsewhere",
        "PATH": "/bin",
    }
    assert from_environment(environ) == {
        "optim": {"lr": 1e-4},
        "data": {"flip": False, "load_size": None},
        "seed": 3,
    }
    with pytest.raises(UsageError, match=r"TWOFOLD_SET_OPTIM must be YAML, not \[1"):
        from_environment({"TWOFOLD_SET_OPTIM": "[1"})


def test_a_wrong_setting_names_the_file_or_the_variable_that_it_is_from(tmp_path):
    file = tmp_path / "x.yaml"
    wrong = {
        "optim: {lr: fast}": "optim.lr must be a number, not fast",
        "generator: {widht: 8}": "there is no setting generator.widht; did you mean generator.width?",
        "method: cyclegn": "method must be cyclegan, pix2pix, cut or fastcut, not cyclegn; did you mean cyclegan?",
        "optim: 3": "optim must be a group of settings, not 3",
    }
    for text, message in wrong.items():
        file.write_text(text)
        with pytest.raises(UsageError, match=f"^{re.escape(f'{file}: {message}')}$"):
            from_file(file)
    with pytest.raises(UsageError, match=r"^TWOFOLD_SET_OPTIM__LR: optim.lr must be a number, not fast$"):
        from_environment({"TWOFOLD_SET_OPTIM__LR": "fast"})
    with pytest.raises(
        UsageError, match=r"^TWOFOLD_SET_OPTIM_LR: there is no setting optim_lr; did you mean"
    ):
        from_environment({"TWOFOLD_SET_OPTIM_LR": "1"})


def test_yaml_errors_name_the_line(tmp_path):
    file = tmp_path / "x.yaml"
    for text, message in {
        "optim: {lr: 1}\nseed: 1\noptim: {beta1: 0.9}": "line 3, column 1: optim twice",
        "? [a, b]\n: 1": "line 1, column 3: found unhashable key",
        "optim:\n  lr: 1\n beta1: 2": "line 3, column 2: expected <block end>",
    }.items():
        file.write_text(text)
        with pytest.raises(UsageError, match=f"cannot read settings from .*x.yaml: {message}"):
            from_file(file)


def test_old_names_are_read_as_the_present_ones():
    old = {"optim": {"critic_lr": 2, "lr": 1}, "cyclegan": {"rehearsals": 3}, "discriminator": {"also": [1]}}
    new = {
        "optim": {"disc_lr": 2, "lr": 1},
        "cyclegan": {"recent_updates": 3},
        "discriminator": {"extra_layers": [1]},
    }
    assert config.with_new_names(old) == new
    assert from_environment({"TWOFOLD_SET_OPTIM__CRITIC_LR": "2"}) == {"optim": {"disc_lr": 2}}
    assert config.variable("optim.critic_lr") == "TWOFOLD_SET_OPTIM__CRITIC_LR"


@pytest.mark.parametrize(
    "text", ["1: 2", "null: 1", "true: {x: 1}", "optim: {1: 2}", "1.5: x", "2026-01-01: x"]
)
def test_keys_that_are_no_names_are_refused(tmp_path, text):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match="there is no setting"):
        compose(FOLDERS, from_file(file))
    with pytest.raises(UsageError, match="there is no setting"):
        compose(FOLDERS, yaml.load(text, Loader))


# ---- wrong settings


@pytest.mark.parametrize(
    ("layer", "near"),
    [
        ({"optim": {"lrr": 1}}, "optim.lr?"),
        ({"lr": 1}, "optim.lr?"),
        ({"generator": {"widht": 1}}, "generator.width?"),
        ({"trainning": {"epochs": 1}}, "training.epochs?"),
        ({"machine": {"channels-last": True}}, "machine.channels_last?"),
    ],
)
def test_a_wrong_key_names_the_nearest(layer, near):
    message = message_for(layer)
    assert message.startswith("there is no setting ")
    if next(iter(layer)) != "trainning":  # a room is unknown as a whole
        assert message.endswith(f"did you mean {near}")


def test_a_wrong_key_that_is_near_nothing():
    assert message_for({"zzzzzz": 1}) == "there is no setting zzzzzz"


@pytest.mark.parametrize(
    ("layer", "near"),
    [
        ({"generator": {"network": "resnet9"}}, "resnet-9"),
        ({"generator": {"network": "encoder_decoder"}}, "encoder-decoder"),  # the last of the choices
        ({"machine": {"precision": "bf-16"}}, "bf16"),
        ({"adversarial": {"loss": "lsgna"}}, "lsgan"),
        ({"method": "cyclgan"}, "cyclegan"),
    ],
)
def test_a_wrong_value_names_the_nearest(layer, near):
    assert message_for(layer).endswith(f"did you mean {near}?")


def test_a_value_that_is_near_nothing_lists_the_choices():
    assert message_for({"machine": {"precision": "quick"}}).endswith(
        "machine.precision must be auto, float32, bf16 or fp16, not quick"
    )


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"optim": {"lr": -1}}, "optim.lr must be greater than 0, not -1"),
        ({"optim": 3}, "optim must be a group of settings, not 3"),
        ({"training": {"batch": 1.5}}, "training.batch must be a whole number, not 1.5"),
        ({"data": {"size": 64, "load_size": 32}}, "data: load_size 32 is under the crop, 64"),
        (
            {"cyclegan": {"gan_ab": 0, "gan_ba": 0, "cycle_a": 0, "cycle_b": 0}},
            "cyclegan: gan_ab, gan_ba, cycle_a and cycle_b are all 0",
        ),
    ],
)
def test_wrong_values(layer, message):
    assert message_for(layer).startswith(message)


def test_what_is_missing():
    with pytest.raises(UsageError, match=r"^a is missing$"):
        compose({"b": "B"})


# ---- files


def test_yaml_round_trip(tmp_path):
    written = compose(
        FOLDERS,
        {"preset": "gan-alone", "optim": {"lr": 1e-5}, "data": {"val_a": "/v/ä", "val_b": "/v/b"}},
        {"cyclegan": {"cycle_a": 0, "identity": 0}, "machine": {"fused": True}},
    )
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml(written), encoding="utf-8")
    assert compose(from_file(file)) == written
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["format"] == config.FORMAT
    assert file.read_text(encoding="utf-8").splitlines()[1] == "method: cyclegan"


def test_every_setting_is_written():
    written = yaml.safe_load(config.to_yaml(compose(FOLDERS)))
    fields = {name for name, _ in flatten(compose(FOLDERS).model_dump())}
    assert {name for name, _ in flatten(written)} == fields | {"format"}


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.e-4", "+1e-4", ".1e-3", "1.0e-4"])
def test_floats_as_everyone_writes_them(text):
    assert yaml.load(text, Loader) == 1e-4


@pytest.mark.parametrize(
    ("text", "value"), [("12", 12), ("1.5", 1.5), ("e4", "e4"), ("true", True), ("-3", -3)]
)
def test_the_rest_of_yaml_is_as_it_was(text, value):
    assert yaml.load(text, Loader) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "holds no settings"),
        ("optim: [", "cannot read settings from"),
        ("format: 99", "has format 99"),
        ("format: new", "has format new"),
        ("", "holds no settings"),
    ],
)
def test_files_that_are_no_settings(tmp_path, text, message):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        from_file(file)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.yaml", "binary.yaml"):
        with pytest.raises(UsageError, match="cannot read settings"):
            from_file(tmp_path / name)


def test_yaml_can_make_no_objects(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("seed: !!python/object/apply:os.getpid []")
    with pytest.raises(UsageError, match="cannot read settings"):
        from_file(file)


# ---- resuming


@pytest.fixture
def stored() -> Config:
    return compose(FOLDERS, {"optim": {"lr": 1e-4}, "training": {"epochs": 3, "state_every": 7}})


def test_nothing_said_changes_nothing(stored):
    assert resume(stored, {}) == stored
    assert resume(stored, FOLDERS) == stored
    assert resume(stored, stored.model_dump()) == stored


SWITCHES = ("capture", "native", "channels_last", "fused", "checkpoint")


def test_every_free_setting_may_change(stored):
    values = {
        "data.cache": False,
        "data.cache_dir": Path("/c"),
        "data.verify": "size",
        **dict.fromkeys(("data.show_a", "data.show_b"), (3, 2, 1)),
        "training.log": ("csv",),
        "machine.device": "cuda",
        "machine.compile": "on",
        **dict.fromkeys((f"machine.{name}" for name in SWITCHES), True),
    }
    for path in config.FREE:
        value = values.get(path, 5)
        changed = resume(stored, nest({path: value}))
        assert dict(flatten(changed.model_dump()))[path] == value
        others = {name: v for name, v in flatten(changed.model_dump()) if name != path}
        assert others == {name: v for name, v in flatten(stored.model_dump()) if name != path}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("optim.lr", 2e-4),
        ("training.batch", 2),
        ("training.ema", 9.5),
        ("data.size", 128),
    ],
)
def test_any_other_may_not(stored, path, value):
    with pytest.raises(
        UsageError, match=f"this run was started with {path} = .*, not {value}; leave it out to resume"
    ):
        resume(stored, nest({path: value}))


def test_other_folders_are_taken_over_and_named(stored):
    changed = resume(stored, {"a": "/other"})
    assert changed == stored.model_copy(update={"a": Path("/other")})
    assert moved(stored.model_dump(), {"a": "/other", "b": FOLDERS["b"]}) == {"a": (stored.a, Path("/other"))}
    with pytest.raises(UsageError, match=r"started with data\.masks_a = none, not /masks"):
        resume(stored, {"data": {"masks_a": "/masks"}, "cyclegan": {"mask": 1.0}})


def test_saying_the_same_or_leaving_it_open_is_fine():
    decided = compose(
        FOLDERS, {"machine": {"device": "cpu", "threads": 2}, "generator": {"network": "resnet-6"}}
    )
    layer = {"machine": {"device": "auto", "threads": None}, "generator": {"network": "auto", "width": 64}}
    assert resume(decided, layer) == decided


def test_a_wrong_key_is_refused_on_resume_too(stored):
    with pytest.raises(UsageError, match=r"did you mean optim.lr\?"):
        resume(stored, {"optim": {"lrr": 1}})


def test_default_out():
    assert config.default_out({"a": "/x/summer", "b": "/y/winter"}) == Path("runs/summer2winter-cyclegan")
