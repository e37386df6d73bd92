"""`twofold translate` and `twofold info` with a model of 6 bands of 12 bits to CT values, its header made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

import twofold
from twofold.formats import images
from twofold.formats.contract import Contract
from twofold.formats.scale import Geometry

BANDS = Contract("uint16", 6, (0.0,), (4095.0,), "bits")
CT = Contract("int16", 1, (-1024.0,), (3071.0,), "percentiles")


@pytest.fixture
def model(tmp_path, monkeypatch):
    from twofold.networks.registry import describe
    from twofold.networks.resnet import ResnetGenerator
    from twofold.translation.header import Header
    from twofold.translation.model_file import save

    monkeypatch.chdir(tmp_path)
    network = ResnetGenerator(6, 1, width=4, blocks=1)
    save(
        network,
        Header.of(describe(network), "ab", BANDS, CT, Geometry("shortest", 36, 32)),
        Path("x.safetensors"),
    )
    Path("in").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.tif", "b.npy"):
        images.write(rng.integers(0, 4096, (50, 70, 6), np.uint16), Path("in", name))
    tifffile.imwrite(
        "in/planar.tif",
        rng.integers(0, 4096, (6, 50, 70), np.uint16),
        planarconfig="separate",
        photometric="minisblack",
    )
    return Path("x.safetensors")


def test_translate_end_to_end(model, call):
    result = call("translate", model, "in", "-o", "out")
    assert (result.code, result.err, result.out) == (0, "", "3 of 3 images translated to out\n")
    translator = twofold.Translator.load(model)
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.tif", "b.npy", "planar.tif"]
    for name in ("a.tif", "planar.tif"):
        pixels = tifffile.imread(Path("out", name))
        assert pixels.dtype == np.int16 and pixels.shape == (50, 70)
        assert np.array_equal(pixels, translator.array(Path("in", name))[..., 0])
    assert np.load("out/b.npy").dtype == np.int16
    result = call("translate", model, "in/a.tif", "-o", "one.npy")
    assert result.code == 0 and np.array_equal(np.load("one.npy"), tifffile.imread("out/a.tif"))


def test_translate_skips_what_exists_and_refuses_what_cannot_be(model, call, refuses):
    Path("out").mkdir()
    Path("out/a.tif").write_text("mine")
    result = call("translate", model, "in", "-o", "out", "--skip-existing")
    assert (result.code, result.out) == (0, "2 of 3 images translated to out; 1 existed already\n")
    assert Path("out/a.tif").read_text() == "mine"
    assert ".jpg does not hold int16 values; use .npy or .tif" in refuses(
        "translate", model, "in", "-o", "new", "--format", "jpg"
    )
    assert ".png does not hold int16 values" in refuses("translate", model, "in/a.tif", "-o", "x.png")
    images.write(np.zeros((9, 9, 3), np.uint8), Path("rgb.png"))
    result = call("translate", model, "rgb.png", "-o", "new")
    assert result.code == 1 and "skipped rgb.png: it has 3 channels, not 6" in result.err


def test_info_says_what_it_takes_and_gives(model, call):
    text = " ".join(call("info", model).out.split())
    assert "takes: uint16, 6 channels, 0…4,095; scaled so that the shorter side is 36 px" in text
    assert "gives: int16, 1 channel, -1,024…3,071" in text
    facts = json.loads(call("info", model, "--json").out)
    assert facts["source"]["high"] == [4095.0] and facts["geometry"]["load_size"] == 36


def test_the_check_takes_the_axes_of_arrays(tmp_path, call):
    (tmp_path / "x").mkdir()
    for i in range(3):
        np.save(tmp_path / "x" / f"{i}.npy", np.full((3, 40, 40), 7 * i, np.uint8))
    refused = call("data", "check", str(tmp_path / "x"))
    assert refused.code == 1 and "--data.layout chw" in refused.out.replace("\n   ", " ")
    assert call("data", "check", str(tmp_path / "x"), "--data.layout", "chw").code == 0
