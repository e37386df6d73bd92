"""Translators of exported .onnx files: every form gives PyTorch's pixels, and other files are refused."""

import numpy as np
import pytest
import torch

import twofold
from twofold.errors import TwofoldError, UsageError
from twofold.formats import images
from twofold.formats.contract import Contract
from twofold.translation.onnx_translator import OnnxTranslator

onnx = pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")


def picture(height, width, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def difference(one, other):
    return np.abs(one.astype(int) - other).max()


FORMS = {"plain": {}, "stored": {"io": "uint8"}, "half": {"fp16": True}, "all": {"io": "uint8", "fp16": True}}


@pytest.mark.parametrize("form", FORMS)
def test_any_size_gives_pytorchs_pixels(by_contract, tmp_path, form):
    plain = by_contract(Contract(), resize="shortest")
    twofold.export(plain, tmp_path / "x.onnx", **FORMS[form])
    other = twofold.load(tmp_path / "x.onnx")
    assert isinstance(other, OnnxTranslator) and other.header == plain.header
    for image in (picture(36, 36), picture(50, 91), picture(3, 7)):
        expected = plain.array(image)
        assert expected.std() > 5
        assert difference(other.array(image), expected) <= (8 if "half" in form or form == "all" else 1)
        assert other.array(image, at="native").shape == image.shape
    assert (
        difference(other.arrays([picture(40, 40), picture(40, 40, 1)])[1], other.array(picture(40, 40, 1)))
        <= 1
    )


@pytest.mark.parametrize("form", ["plain", "stored"])
def test_deep_images(by_contract, bands, ct, tmp_path, form):
    plain = by_contract(bands, ct, resize="crop")
    twofold.export(plain, tmp_path / "x.onnx", **FORMS[form])
    image = np.random.default_rng(0).integers(0, 4096, (40, 70, 6), np.uint16)
    found = twofold.load(tmp_path / "x.onnx").array(image)
    assert found.dtype == np.int16 and difference(found, plain.array(image)) <= 1


def test_a_lab_model(resnet, tmp_path):
    from twofold.formats.scale import Geometry
    from twofold.networks.registry import describe
    from twofold.translation.header import Header
    from twofold.translation.translator import Translator

    network = resnet(in_channels=1, out_channels=2)
    header = Header.of(describe(network), "ab", Contract(), Contract(), Geometry("none", 32, 32), lab=True)
    plain = Translator(network, header)
    twofold.export(plain, tmp_path / "x.onnx")
    assert (
        difference(twofold.load(tmp_path / "x.onnx").array(picture(32, 40)), plain.array(picture(32, 40)))
        <= 3
    )


def test_a_fixed_size_sees_the_trained_scale_or_what_fits(by_contract, tmp_path):
    plain = by_contract(Contract(), resize="shortest", load_size=36)
    twofold.export(plain, tmp_path / "x.onnx", fixed=(48, 64), io="uint8")
    fixed = twofold.load(tmp_path / "x.onnx")
    assert fixed.working_size(72, 72) == (36, 36)
    assert fixed.working_size(36, 144) == (16, 64)
    assert fixed.working_size(480, 480, "native") == (48, 48)
    exact = picture(48, 64)
    assert difference(fixed.array(exact, at="native"), plain.array(exact, at="native")) <= 1
    mirrored = np.pad(picture(36, 40), [(0, 12), (0, 24), (0, 0)], "symmetric")
    assert difference(fixed.array(picture(36, 40)), plain.array(mirrored, at="native")[:36, :40]) <= 1
    for height, width in ((200, 31), (9, 300), (2, 2)):
        assert fixed.array(picture(height, width)).shape == (height, width, 3)
    both = fixed.arrays([picture(36, 36), picture(36, 36, 1)])
    assert np.array_equal(both[1], fixed.array(picture(36, 36, 1)))


@pytest.fixture
def file(by_contract, tmp_path, monkeypatch):
    """x.onnx and x.png in the current folder."""
    monkeypatch.chdir(tmp_path)
    twofold.export(by_contract(Contract()), "x.onnx")
    images.write(picture(20, 24), tmp_path / "x.png")
    return tmp_path / "x.onnx"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "cuda"}, "x.onnx runs in ONNX Runtime on the CPU, not on cuda"),
        ({"backend": "openvino"}, "for openvino give the run"),
        ({"backend": "tensorrt"}, "for tensorrt give the run"),
        ({"noise": True}, "no dropout noise"),
        ({"precision": "bf16"}, "x.onnx has no bf16; leave out --precision"),
        ({"direction": "ba"}, "translates ab, not ba"),
        ({"best": True}, "--best is for runs; x.onnx is not one"),
        ({"key": "netG"}, "--key is for checkpoints of other projects; x.onnx is not one"),
    ],
)
def test_what_a_file_cannot_do(file, given, message):
    with pytest.raises(UsageError, match=message):
        twofold.load("x.onnx", **given)
    with pytest.raises(UsageError, match="no weights to save"):
        twofold.load("x.onnx", backend="onnxruntime", noise=False, device=torch.device("cpu")).save(
            "y.safetensors"
        )


def test_a_file_is_not_translated_in_tiles(file, command):
    ended = command("translate", "x.onnx", "x.png", "-o", "out", "--tiles", "16")
    assert ended.code == 2
    assert "--tiles 16: onnxruntime does not translate in tiles; give the run or" in ended.output


def test_other_files_are_refused_in_a_line(file, command):
    graph = onnx.load(file)
    del graph.metadata_props[:]
    onnx.save(graph, "foreign.onnx")
    onnx.helper.set_model_props(graph, {"twofold": "{}", "twofold_form": '{"io": "float"}'})
    onnx.save(graph, "damaged.onnx")
    file.with_name("cut.onnx").write_bytes(file.read_bytes()[:-999])
    file.with_name("text.onnx").write_text("no graph")
    for name, reason in (
        ("foreign", "did not write"),
        ("damaged", "did not write"),
        ("cut", "is damaged"),
        ("text", "is damaged"),
    ):
        for words in (("info", f"{name}.onnx"), ("translate", f"{name}.onnx", "x.png", "-o", "out")):
            ended = command(*words)
            assert (ended.code, ended.output.count("\n")) == (1, 1), ended
            assert f"{name}.onnx" in ended.output and reason in ended.output
        with pytest.raises(TwofoldError, match=reason):
            twofold.load(f"{name}.onnx")
    ended = command("translate", "missing.onnx", "x.png", "-o", "out")
    assert ended.code == 2 and "missing.onnx does not exist" in ended.output
    assert not file.with_name("out").exists()


def test_the_commands_read_a_file(file, command):
    assert command("translate", "x.onnx", "x.png", "-o", "y.png").code == 0
    assert images.read_stored(file.with_name("y.png")).pixels.shape == (20, 24, 3)
    told = command("info", "x.onnx").output
    for part in (
        "opset:      17",
        "InstanceNormalization",
        "io:         float",
        "direction:  ab",
        "megabytes:",
    ):
        assert part in told
    assert '"operators": ' in command("info", "x.onnx", "--json").output
