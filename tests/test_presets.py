"""Presets as data: each composes, says only what its method would not do anyway, and says where that is from."""

import re
from pathlib import Path

import pytest

from twofold.cli import app as cli
from twofold.config import compose, flatten, merge
from twofold.data.published import PUBLISHED, WITHHELD
from twofold.presets import PRESETS, commands, find, layer
from twofold.training import train as loop

FOLDERS = {"a": Path("/images/a"), "b": Path("/images/b")}

ON_PURPOSE = {
    "cyclegan": {"cyclegan.cycle_a", "cyclegan.cycle_b", "cyclegan.replay", "adversarial.loss"},
    "pix2pix-patch-70": {"discriminator.layers"},
    "pix2pix-unet": {"generator.network"},
}
"""What equals the method's default: the paper's objective as a whole, and rows of a table beside rows that differ."""

HOMES = ("arXiv ", "train.lua", "the authors", "PyTorch-GAN,", "docs/LOG.md")
"""Where a value can be looked up."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_valid_config_of_its_method(name):
    found = compose(FOLDERS, layer(name))
    assert (found.preset, found.method) == (name, PRESETS[name].method)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_only_what_differs_from_its_method(name):
    preset = PRESETS[name]
    default = dict(flatten(compose(FOLDERS, {"method": preset.method}).model_dump()))
    same = {path for path, (value, _) in preset.values.items() if default[path] == value}
    assert same == ON_PURPOSE.get(name, set())


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_has_a_source(name):
    preset = PRESETS[name]
    for source in (preset.source, *(source for _, source in preset.values.values())):
        assert any(home in source for home in HOMES), source
    assert preset.what and len(f"  {name:<24}{preset.what}") <= 80
    assert preset.data is None or preset.data in PUBLISHED or preset.data in WITHHELD


def test_no_two_presets_are_the_same_without_saying_so():
    """The full objective is a row of three tables, and CUT's recipe is one for all of its data sets."""
    seen: dict[str, list[str]] = {}
    for name, preset in PRESETS.items():
        seen.setdefault(repr(preset.settings), []).append(name)
    twins = [names for names in seen.values() if len(names) > 1]
    assert twins == [
        ["horse2zebra", "apple2orange", "summer2winter", "maps", "facades"],
        ["cezanne2photo", "ukiyoe2photo", "vangogh2photo"],
        ["pix2pix-facades", "pix2pix-cityscapes", "pix2pix-l1-cgan"],
        ["cut-horse2zebra", "cut-cat2dog", "cut-cityscapes"],
        ["fastcut-horse2zebra", "fastcut-cat2dog", "fastcut-cityscapes"],
    ]


# ---- some recipes, as the papers say them


def recipe(name):
    return compose(FOLDERS, layer(name))


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "loaded", "flip", "direction"),
    [
        ("pix2pix-facades", 200, 1, 286, True, "ba"),
        ("pix2pix-maps", 200, 1, 286, True, "ab"),
        ("pix2pix-cityscapes", 200, 1, 286, True, "ba"),
        ("edges2shoes", 15, 4, 256, False, "ab"),
        ("edges2handbags", 15, 4, 256, True, "ab"),
        ("night2day", 17, 4, 286, True, "ba"),
    ],
)
def test_lengths_of_pix2pix(name, epochs, batch, loaded, flip, direction):
    found = recipe(name)
    assert (found.training.epochs, found.training.decay_epochs) == (epochs, 0)
    assert (found.training.batch, found.data.loaded, found.data.flip) == (batch, loaded, flip)
    assert found.data.direction == direction
    assert found.data.paired and found.adversarial.loss == "bce" and found.pix2pix.distance == 100


@pytest.mark.parametrize(
    ("name", "conditional", "gan", "distance"),
    [
        ("pix2pix-l1", True, 0, 100),
        ("pix2pix-gan", False, 1, 0),
        ("pix2pix-cgan", True, 1, 0),
        ("pix2pix-l1-gan", False, 1, 100),
        ("pix2pix-l1-cgan", True, 1, 100),
    ],
)
def test_objectives_of_pix2pix(name, conditional, gan, distance):
    found = recipe(name).pix2pix
    assert (found.conditional, found.gan, found.distance) == (conditional, gan, distance)


@pytest.mark.parametrize("side", [1, 16, 70, 286])
def test_patches_of_pix2pix_are_as_large_as_their_names_say(side):
    found = recipe(f"pix2pix-patch-{side}").discriminator
    seen = 1
    if found.network == "patch":  # from the last convolution to the first: kernel 4, stride 1, 1, then 2 each
        for stride in (1, 1, *(2,) * found.layers):
            seen = (seen - 1) * stride + 4
    assert (found.network == "pixel") == (side == 1)
    assert seen == side


def test_sizes_of_cyclegan():
    assert (recipe("cityscapes").data.size, recipe("cityscapes").data.loaded) == (128, 143)
    flowers = recipe("iphone2dslr").data
    assert (flowers.resize, flowers.loaded) == ("scale-width-and-crop", 360)
    assert recipe("monet2photo").data.resize == "crop"
    identity = {name for name in PRESETS if (recipe(name).cyclegan.identity or 0) > 0}
    assert identity == {
        *("cyclegan", "monet2photo", "cezanne2photo", "ukiyoe2photo", "vangogh2photo", "iphone2dslr"),
        *("pytorch-gan", "seasons"),
    }


def test_lengths_of_cut():
    cut, fast = recipe("cut-horse2zebra"), recipe("fastcut-horse2zebra")
    assert (cut.training.epochs, cut.training.decay_epochs, cut.cut.nce) == (200, 200, 1)
    assert (fast.training.epochs, fast.training.decay_epochs, fast.cut.nce) == (150, 50, 10)
    assert cut.cut.nce_identity and not fast.cut.nce_identity and fast.cut.flip


# ---- what is said of them


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_that_is_shown_trains_with_the_preset(name, monkeypatch):
    heard = {}
    monkeypatch.setattr(
        loop, "start_or_resume", lambda out, said, *_, **_options: bool(heard.update(said)) or True
    )
    *_, train = commands(name)
    assert cli.run(train.split()[1:]) == 0
    wanted = merge(layer(name), {"data": {"hold_out": False}})
    folders = {key: heard[key] for key in "ab" if key in heard}
    assert compose(heard) == compose(wanted, folders)
    assert [folder.name for folder in folders.values()] == {
        True: ["train"],
        False: ["trainB", "trainA"] if PRESETS[name].backwards else ["trainA", "trainB"],
    }[PRESETS[name].method == "pix2pix"]


def test_a_set_that_can_be_fetched_is_fetched_first():
    assert commands("horse2zebra")[0] == "twofold data download horse2zebra"
    assert commands("pix2pix-maps", Path("m")) == [
        "twofold data download pix2pix-maps",
        "twofold train m/train --val none --preset pix2pix-maps",
    ]
    assert commands("pix2pix-maps", Path("my maps"))[1].startswith("twofold train 'my maps/train' --val")
    assert len(commands("cityscapes")) == len(commands("cyclegan")) == 1


def test_the_list_and_the_details_fit_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run(["presets"]) == 0
    listed = capsys.readouterr().out
    assert max(map(len, listed.splitlines())) <= 80
    assert re.findall(r"^  (\S+) ", listed, re.M) == list(PRESETS)
    headings = re.findall(r"^(\S.*):$", listed, re.M)
    assert headings == list(dict.fromkeys(preset.group for preset in PRESETS.values()))
    for name in PRESETS:
        assert cli.run(["presets", name]) == 0
        said = capsys.readouterr().out
        lines = [line for line in said.splitlines() if not line.startswith("twofold ")]
        assert max(map(len, lines)) <= 80
        for line in commands(name):
            assert f"\n{line}\n" in said


@pytest.mark.parametrize("name", PRESETS)
def test_the_options_that_are_shown_set_what_the_preset_sets(name, capsys, monkeypatch):
    heard = {}
    monkeypatch.setattr(
        loop, "start_or_resume", lambda out, overrides, *_, **_options: bool(heard.update(overrides)) or True
    )
    assert cli.run(["presets", name]) == 0
    words = [line.split(" ") for line in capsys.readouterr().out.splitlines() if line.startswith("--")]
    assert cli.run(["train", "A", "B", *(word for line in words for word in line)]) == 0
    assert compose(heard) == compose(PRESETS[name].settings, {key: heard[key] for key in "ab"})


def test_names_from_the_registry():
    assert find("horse2zebra") is PRESETS["horse2zebra"]
    assert layer(None) == {}
    assert layer("cycle-alone") == {
        "preset": "cycle-alone",
        "method": "cyclegan",
        "data": {"resize": "resize-and-crop"},
        "cyclegan": {"gan_ab": 0, "gan_ba": 0, "identity": 0},
    }
