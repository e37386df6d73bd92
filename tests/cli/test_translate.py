"""`twofold translate`: pictures, formats, models, and what it refuses."""

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import twofold
from twofold.formats import images


def opened(path):
    """The picture in a file, and the file closed again."""
    with Image.open(path) as picture:
        picture.load()
        return picture


def test_translate_a_folder(made, call, tmp_path):
    source = made.pictures / "testA"
    result = call("translate", made.run, source, "-o", tmp_path / "out", "--precision", "float32")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"4 of 4 images translated to {tmp_path / 'out'}\n"
    translator = twofold.Translator.load(made.run)
    for path in images.find(source):
        result = np.array(opened(tmp_path / "out" / path.name))
        assert np.array_equal(result, np.array(translator(path)))
    assert len(images.find(tmp_path / "out")) == 4


def test_every_kind_of_picture_comes_back_at_its_size(noise, call, model):
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
    result = call("translate", model, "in", "-o", "out")
    assert (result.code, result.err) == (0, "")
    found = {path.relative_to("out").as_posix(): opened(path) for path in images.find("out")}
    assert {name: found[f"{name}.png"].size for name in sizes} == {n: (w, h) for n, (h, w) in sizes.items()}
    assert found["deep/one.png"].size == (12, 9)
    rest = {"grey": "RGB", "alpha": "RGBA", "cmyk": "RGB", "deep16": "RGB", "array": "RGB"}
    assert all(
        (found[f"{name}.png"].size, found[f"{name}.png"].mode) == ((11, 10), rest[name]) for name in rest
    )
    assert np.array_equal(np.array(found["alpha.png"])[..., 3], np.array(opened("in/alpha.png"))[..., 3])


def test_formats_scales_and_a_named_result(noise, call, model):
    noise(Path("x.png"))
    for suffix, kind in (("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")):
        assert call("translate", model, "x.png", "-o", "out", "--format", suffix).code == 0
        assert opened(f"out/x.{suffix}").format == kind
    for at in ("trained", "native", "17"):
        result = call("translate", model, "x.png", "-o", f"{at}.png", "--at", at)
        assert result.code == 0 and result.out == f"1 of 1 images translated to {at}.png\n"
    results = [np.array(opened(f"{at}.png")) for at in ("trained", "native", "17")]
    assert not np.array_equal(results[0], results[1]) and not np.array_equal(results[1], results[2])


def test_bad_inputs_are_named_and_the_others_done(noise, call, model):
    noise(Path("in/a.png"))
    noise(Path("in/z.png"))
    whole = noise(Path("in/cut.jpg"), 90, 90).read_bytes()
    Path("in/cut.jpg").write_bytes(whole[: len(whole) // 2])
    Path("in/text.png").write_text("no image")
    np.save("in/five.npy", np.zeros((4, 4, 5), np.uint8))
    result = call("translate", model, "in", "-o", "out")
    assert result.code == 3 and result.out == "2 of 5 images translated to out\n"
    lines = result.err.splitlines()
    assert len(lines) == 3 and all(line.startswith("twofold: skipped in/") for line in lines)
    assert sorted(re.findall(r"skipped in/(\S+):", result.err)) == ["cut.jpg", "five.npy", "text.png"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "z.png"]


def test_many_bad_inputs_are_ten_lines_and_a_count(noise, call, model):
    noise(Path("in/good.png"))
    for number in range(13):
        Path(f"in/{number:02}.png").write_bytes(b"no image")
    result = call("translate", model, "in", "-o", "out", "--json")
    lines = result.err.splitlines()
    assert result.code == 3 and len(lines) == 11
    assert lines[-1] == "twofold: skipped 3 more files; --json lists each of them"
    found = json.loads(result.out)
    assert (found["written"], found["existing"]) == (["out/good.png"], [])
    assert [*found["problems"]] == [f"in/{number:02}.png" for number in range(13)]
    assert "not an image" in found["problems"]["in/12.png"]


def test_nothing_but_bad_inputs_is_a_failure(call, model):
    Path("text.png").write_text("no image")
    result = call("translate", model, "text.png", "-o", "out")
    assert result.code == 1 and "skipped text.png: not an image" in result.err


def test_translate_refuses_in_one_line(noise, refuses, model):
    noise(Path("in/a.png"))
    Path("file").write_text("x")
    Path("empty").mkdir()
    assert "give images to translate" in refuses("translate", model, "-o", "out")
    given = refuses("translate", "my runs/x", "-o", "my out")
    assert given == "give images to translate: `twofold translate 'my runs/x' IMAGES -o 'my out'`"
    assert "nowhere does not exist" in refuses("translate", model, "nowhere", "-o", "out")
    assert "nowhere does not exist" in refuses("translate", "nowhere", "in", "-o", "out")
    assert "in has no snapshot of direction ab; give a run folder" in refuses(
        "translate", "in", "in", "-o", "out"
    )
    assert "holds no images" in refuses("translate", model, "empty", "-o", "out")
    assert "in is the folder of the images" in refuses("translate", model, "in", "-o", "in")
    assert "translates ab, not ba" in refuses("translate", model, "in", "-o", "out", "--direction", "ba")
    assert "--at must be trained, native or a number of pixels, not big" in refuses(
        "translate", model, "in", "-o", "out", "--at", "big"
    )
    assert "number of pixels, not 0" in refuses("translate", model, "in", "-o", "out", "--at", "0")
    assert "there is no device" in refuses("translate", model, "in", "-o", "out", "--device", "gpu")
    assert "file" in refuses("translate", model, "in", "-o", "file", code=1)
    assert "file" in refuses("translate", model, "in", "-o", "file/deep", code=1)
    assert "end its name" in refuses("translate", model, "in/a.png", "-o", "x.heic")
    assert "end its name" in refuses("translate", model, "in/a.png", "-o", "x.gif")
    assert "--quality must be 1 to 100, not 0" in refuses(
        "translate", model, "in", "-o", "out", "--format", "jpg", "--quality", "0"
    )
    assert "--quality is for jpg" in refuses("translate", model, "in", "-o", "out", "--quality", "80")
    assert "name two formats" in refuses("translate", model, "in/a.png", "-o", "x.jpg", "--format", "png")
    assert not Path("out").exists() and not Path("x.heic").exists()


def test_a_full_disk_stops_at_once_and_leaves_nothing(noise, call, model, monkeypatch):
    for i in range(5):
        noise(Path(f"in/{i}.png"))

    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    result = call("translate", model, "in", "-o", "out")
    assert result.code == 1 and result.line == "cannot write out/0.png: No space left on device"
    assert list(Path("out").iterdir()) == []


def test_a_picture_over_the_memory_is_refused_naming_at(noise, call, model, monkeypatch):
    from twofold import hardware

    noise(Path("x.png"), 300, 400)
    monkeypatch.setattr(hardware, "free_memory", lambda device: 2**20)
    result = call("translate", model, "x.png", "-o", "out", "--at", "native", "--tiles", "off")
    assert result.code == 1 and re.search(r"skipped x.png: 400×300 pixels need .*use --at \d+", result.err)
    assert call("translate", model, "x.png", "-o", "out").code == 0  # at the scale of the training it fits


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_models_of_other_channel_counts(call, tmp_path, monkeypatch, channels):
    from twofold.networks.registry import describe
    from twofold.networks.resnet import ResnetGenerator
    from twofold.translation.header import Header
    from twofold.translation.model_file import save

    monkeypatch.chdir(tmp_path)
    network = ResnetGenerator(channels, channels, width=2, blocks=1)
    save(network, Header(describe(network), "ab", None), Path("model.safetensors"))
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (9, 10, channels), dtype=np.uint8))
    result = call("translate", "model.safetensors", "x.npy", "-o", "out")
    assert result.code == 0, result.err
    if channels == 5:
        result = np.load("out/x.npy")
        assert result.shape == (9, 10, 5) and result.dtype == np.uint8
        result = call("translate", "model.safetensors", "x.npy", "-o", "out", "--format", "png")
        assert result.code == 2 and ".png does not hold 5 channels; use .npy" in result.line
    else:
        assert opened("out/x.png").mode == {1: "L", 4: "RGBA"}[channels]


def test_damaged_and_foreign_models_are_refused(noise, refuses, model, made):
    noise(Path("in/a.png"))
    torch.save({"x": torch.zeros(1)}, "net.pth")
    assert "not those of a generator" in refuses("translate", "net.pth", "in", "-o", "out", code=1)
    whole = model.read_bytes()
    Path("cut.safetensors").write_bytes(whole[:-9])
    assert "copy it again" in refuses("translate", "cut.safetensors", "in", "-o", "out", code=1)
    assert "copy it again" in refuses("info", "cut.safetensors", code=1)
    Path("newer.safetensors").write_bytes(whole.replace(rb"\"format\": 2", rb"\"format\": 9"))
    assert "update twofold" in refuses("translate", "newer.safetensors", "in", "-o", "out", code=1)


def test_names_that_no_encoding_holds(call, model):
    Path("in").mkdir()
    Path(os.fsdecode(b"in/\xff\x1b[2J.png")).write_text("no image")
    result = call("translate", model, "in", "-o", "out")
    assert result.code == 1 and not {"\x1b", "\udcff"} & {*result.out}
    assert result.line.startswith("skipped in/\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2J.png")


def test_tiles_from_the_command_line(noise, call, model):
    noise(Path("x.png"), 150, 100)
    exactly = ("--precision", "float32")
    assert call("translate", model, "x.png", "-o", "whole.png", "--at", "native", *exactly).code == 0
    result = call(
        *("translate", model, "x.png", "-o", "tiled.png", "--at", "native"),
        *("--tiles", "64", "--tile-statistics", "exact", "--memory", "1GiB", *exactly),
    )
    assert result.code == 0 and "translating in tiles of 64 px, exact statistics" in result.err
    whole, tiled = (np.asarray(Image.open(f"{name}.png")).astype(int) for name in ("whole", "tiled"))
    assert np.abs(whole - tiled).max() <= 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--tiles", "0", "must be auto, off or a number of pixels"),
        ("--tiles", "big", "must be auto, off or a number of pixels"),
        ("--memory", "lots", "must be an amount of memory such as 2GiB"),
        ("--memory", "0", "must be an amount of memory such as 2GiB"),
        ("--tile-statistics", "good", "fast"),
    ],
)
def test_wrong_tile_options_are_one_line(noise, call, model, option, value, message):
    noise(Path("x.png"), 20, 20)
    result = call("translate", model, "x.png", "-o", "out", option, value)
    assert result.code == 2 and message in result.err and not Path("out").exists()
