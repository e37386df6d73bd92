"""The header of format 2: what it stores, and that every hostile one is refused in one line."""

import json
from dataclasses import replace

import pytest
from safetensors.torch import save_file

from twofold.errors import TwofoldError
from twofold.formats.contract import Contract, Labels
from twofold.formats.scale import Geometry
from twofold.networks.registry import describe
from twofold.translation import model_file
from twofold.translation.header import MAX_CLASSES, Header, contract_in_words, scale_in_words

A = Contract("uint16", 1, (0.0,), (4095.0,), "bits")
B = Contract("int16", 1, (-1024.0,), (3071.0,), "percentiles", icc="srgb")
GEOMETRY = Geometry("shortest", 36, 32)


@pytest.fixture
def network(resnet):
    return resnet(width=2, in_channels=1, out_channels=1)


@pytest.fixture
def header(network):
    return Header.of(describe(network), "ab", A, B, GEOMETRY, {"method": "pix2pix"}, noise=True)


def test_it_comes_back_from_its_file(network, header, tmp_path):
    model_file.save(network, header, tmp_path / "x.safetensors")
    _, found = model_file.load(tmp_path / "x.safetensors")
    assert found == header and found.format == 2
    assert (found.source_contract, found.target_contract, found.geometry) == (A, B, GEOMETRY)
    assert json.loads(found.to_json()) == {
        "direction": "ab",
        "format": 2,
        "geometry": {"resize": "shortest", "load_size": 36, "size": 32},
        "network": describe(network),
        "noise": True,
        "origin": {"method": "pix2pix"},
        "source": {**A.to_dict(), "low": [0.0], "high": [4095.0]},
        "target": {**B.to_dict(), "low": [-1024.0], "high": [3071.0]},
    }


def test_labels_come_back_too(resnet, tmp_path):
    labels = Labels(((0,), (7,), (255,)), ("void", "road", "sky"), ((0, 0, 0), (1, 2, 3)), onehot=True)
    source = Contract("uint8", 1, found="labels", labels=labels)
    network = resnet(width=2, in_channels=3, out_channels=1)
    header = Header.of(describe(network), "ba", source, A, GEOMETRY)
    model_file.save(network, header, tmp_path / "x.safetensors")
    _, found = model_file.load(tmp_path / "x.safetensors")
    assert found.source_contract == source and found.nearest and not header.labels


def test_format_1_has_8_bit_contracts():
    header = Header({"network": "resnet", "in_channels": 4, "out_channels": 1}, "ab", 32)
    assert header.source_contract == Contract(channels=4) and header.target_contract == Contract(channels=1)
    assert header.geometry is None and header.format == 1 and not header.nearest
    lab = Header({"network": "unet", "in_channels": 1, "out_channels": 2}, "ab", 32, lab=True)
    assert lab.source_contract == lab.target_contract == Contract()


HUGE = {"values": [[i] for i in range(MAX_CLASSES + 1)], "names": [], "palette": [], "onehot": True}
ONE = {"values": [[0]], "names": [], "palette": [], "onehot": False}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("geometry.load_size", value) for value in (10**9, -1, 0, True, "9", 9.5, None)),
        *(("geometry.size", value) for value in (10**9, 0, [])),
        *(("geometry.resize", value) for value in ("bicubic", 1)),
        *(("geometry", value) for value in (None, {}, [], 3)),
        *(("source", value) for value in (None, {}, "uint8", [])),
        *(("source.dtype", value) for value in ("int64", "object", 8, None)),
        *(("source.channels", value) for value in (10**9, 0, -1, 2, True, "1", 1.0)),
        *(
            ("source.low", value)
            for value in ([5000.0], [float("nan")], [float("-inf")], [-1e308], [-1e38], [], 5, ["0"])
        ),
        *(("source.high", value) for value in ([0.0], [10**400], [1e38], [1.0, 2.0], None)),
        *(("source.found", value) for value in ("guess", 1)),
        *(("source.icc", value) for value in ("cmyk", None)),
        ("source.surprise", 1),
        ("geometry.surprise", 1),
        *(("source.labels", value) for value in ("x", {}, HUGE, 10**9)),
        ("source.labels", {**ONE, "values": []}),
        ("source.labels", {**ONE, "values": [[0, 0, 0]]}),
        ("source.labels", {**ONE, "values": [[70_000]]}),
        ("source.labels", {**ONE, "values": [[10**30]]}),
        ("source.labels", {**ONE, "values": 10**9}),
        ("source.labels", {**ONE, "values": [[0], [1]], "onehot": True}),
        *(("size", value) for value in (32, 0)),
        ("dtype", "uint16"),
        ("range", [0, 1]),
        ("format", 1),
        ("lab", True),
        ("network.in_channels", 3),
    ],
    ids=lambda value: str(value)[:30],
)
def test_hostile_fields_are_refused(network, header, tmp_path, place, value):
    content = json.loads(header.to_json())
    *parents, name = place.split(".")
    inside = content
    for parent in parents:
        inside = inside[parent]
    inside[name] = value
    path = tmp_path / "x.safetensors"
    save_file(network.state_dict(), path, {"twofold": json.dumps(content)})
    with pytest.raises(TwofoldError) as caught:
        model_file.load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 400


@pytest.mark.parametrize("name", ["source", "target", "geometry", "network", "direction"])
def test_missing_fields_are_refused(network, header, tmp_path, name):
    content = json.loads(header.to_json())
    del content[name]
    save_file(network.state_dict(), tmp_path / "x.safetensors", {"twofold": json.dumps(content)})
    with pytest.raises(TwofoldError, match="not a model that twofold wrote"):
        model_file.load(tmp_path / "x.safetensors")


def test_contracts_and_scales_in_words():
    assert contract_in_words(A) == "uint16, 1 channel, 0…4,095"
    assert contract_in_words(B) == "int16, 1 channel, -1,024…3,071"
    each = replace(A, channels=5, low=(0.0,) * 5, high=(1.0, 2.0, 3.0, 4.0, 5.0))
    assert contract_in_words(each) == "uint16, 5 channels, 0…1; 0…2; 0…3; 0…4; … by channel"
    labels = Contract("uint8", 1, labels=Labels(((0,), (1,)), onehot=True))
    assert contract_in_words(labels) == "uint8, 1 channel, label map of 2 classes, one-hot"
    network = {"network": "resnet", "in_channels": 1, "out_channels": 1}
    for resize, words in {
        "shortest": "scaled so that the shorter side is 36 px",
        "resize-and-crop": "squashed to 36 × 36 px",
        "scale-width": "scaled so that the width is 36 px",
        "crop": "at its own scale",
    }.items():
        header = Header.of(network, "ab", A, B, Geometry(resize, 36, 32))
        assert scale_in_words(header) == words
    assert scale_in_words(Header(network, "ab", 256)) == "scaled to about 256² pixels"
