"""Backends beside torch give the same pictures, or one clear line where they cannot run."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from twofold.cli import app as cli
from twofold.errors import UsageError
from twofold.formats import images
from twofold.networks.registry import describe
from twofold.translation.header import Header
from twofold.translation.translator import Translator


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def skip_without(backend):
    """Skip if a package is missing; before OpenVINO is imported, its telemetry is hidden."""
    pytest.importorskip("onnx", reason="needs the extra export or openvino")
    if backend == "openvino":
        sys.modules.setdefault("openvino_telemetry", None)
    pytest.importorskip(
        backend, reason=f"needs the extra {'export' if backend == 'onnxruntime' else backend}"
    )


def largest_difference(one, two):
    return np.abs(one.astype(int) - two).max()


NETWORKS = {
    "resnet": ("resnet", {}),
    "resnet of width 64": ("resnet", {"width": 64}),  # wide enough for Winograd's convolutions
    "antialiased": ("resnet", {"antialias": True, "upsample": "blur"}),
    "skips": ("resnet", {"skips": True, "upsample": "resize"}),
    "unet": ("unet", {"norm": "batch"}),
    "unet resizing": ("unet", {"upsample": "resize-zero"}),
}


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_picture_within_a_level(request, backend, name):
    skip_without(backend)
    kind, arguments = NETWORKS[name]
    network = request.getfixturevalue(kind)(**arguments)
    header = Header(describe(network), "ab", 64)
    plain, other = Translator(network, header), Translator(network, header, backend=backend)
    for image in (noise(64, 64), noise(48, 100, seed=1)):
        expected = plain.array(image)
        assert expected.std() > 5
        assert largest_difference(other.array(image), expected) <= 1
        assert all(largest_difference(each, expected) <= 1 for each in other.arrays([image, image]))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_deep_images_within_a_level(by_contract, bands, ct, backend):
    skip_without(backend)
    plain = by_contract(bands, ct, resize="shortest")
    other = Translator(plain.generator, plain.header, backend=backend)
    image = np.random.default_rng(0).integers(0, 4096, (40, 70, 6), np.uint16)
    expected = plain.array(image)
    assert expected.std() > 50 and other.array(image).dtype == np.int16
    assert largest_difference(other.array(image), expected) <= 1


def test_openvino_sends_no_telemetry():
    skip_without("openvino")
    code = (
        "import sys\nfrom twofold.translation.backends import import_openvino\nimport_openvino()\n"
        "assert not [n for n, m in sys.modules.items() if m and n.startswith('openvino_telemetry')]\n"
        "from openvino.tools.ovc import telemetry_utils\nassert 'stub' in telemetry_utils.tm.__name__"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("backend", "extra"), [("openvino", "openvino"), ("onnxruntime", "export")])
def test_a_missing_package_is_named_with_its_extra(translator, monkeypatch, capsys, tmp_path, backend, extra):
    monkeypatch.setitem(sys.modules, backend, None)
    made = translator()
    made.save(tmp_path / "x.safetensors")
    images.write(noise(8, 8), tmp_path / "x.png")
    command = ["translate", tmp_path / "x.safetensors", tmp_path / "x.png", "-o", tmp_path / "out"]
    assert cli.run([*map(str, command), "--backend", backend]) == 2
    assert f"pip install 'twofold[{extra}]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backend": "tensorrt"}, "backend must be torch or openvino or onnxruntime, not 'tensorrt'"),
        ({"precision": "fp16"}, "precision must be auto or float32 or bf16, not 'fp16'"),
        ({"device": None}, "there is no device None"),
    ],
)
def test_what_does_not_exist_is_refused(translator, tmp_path, given, message):
    translator().save(tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match=message):
        Translator.load(tmp_path / "x.safetensors", **given)


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
def test_a_pickled_translator_computes_in_the_same_way(resnet, backend):
    """The pickle of a network holds torch's own layers; its translator makes them fast again."""
    if backend != "torch":
        skip_without(backend)
    network = resnet(width=64)
    made = Translator(network, Header(describe(network), "ab", 64), backend=backend)
    sent = pickle.loads(pickle.dumps(made))
    layers = [[type(layer) for layer in each.generator.modules()] for each in (made, sent)]
    assert layers[0] == layers[1]
    assert np.array_equal(sent.array(noise(40, 40)), made.array(noise(40, 40)))


def test_noise_and_other_devices_are_refused(unet):
    network = unet(dropout=True)
    header = Header(describe(network), "ab", 32, noise=True)
    with pytest.raises(UsageError, match="has no dropout noise; add --no-noise"):
        Translator(network, header, backend="onnxruntime")
    with pytest.raises(UsageError, match="--backend onnxruntime has no bf16; leave out --precision"):
        Translator(network, header, precision="bf16", noise=False, backend="onnxruntime")
    with pytest.raises(UsageError, match="runs on the CPU, not on meta"):
        Translator(network.to("meta"), header, "meta", noise=False, backend="openvino")


@pytest.mark.parametrize("size", [16, 33])
def test_an_output_does_not_depend_on_its_neighbours(translator, resnet, size):
    """One at a time and together, with a network wide enough for Winograd's convolutions."""
    made = translator(resnet(width=64), size=None)
    pictures = [noise(size, size + 4, seed) for seed in range(3)]
    alone = [made.array(each) for each in pictures]
    assert all(largest_difference(x, y) <= 1 for x, y in zip(made.arrays(pictures), alone, strict=True))
    others = made.arrays([pictures[0], pictures[2], pictures[1]])
    assert np.array_equal(others[0], made.arrays(pictures)[0])


def test_bf16_is_near_and_loading_leaves_float32(translator, tmp_path):
    translator(size=32).save(tmp_path / "x.safetensors")
    exact = Translator.load(tmp_path / "x.safetensors", device="cpu")
    rough = Translator.load(tmp_path / "x.safetensors", device="cpu", precision="bf16")
    image = noise(32, 32)
    difference = np.abs(rough.array(image).astype(int) - exact.array(image))
    assert 0 < difference.mean() < 4
    assert rough.forward(torch.zeros(1, 3, 8, 8)).dtype == torch.float32
