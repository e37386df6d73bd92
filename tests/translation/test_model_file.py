"""The model file: its content, and that every damaged or hostile file is refused in one line."""

import errno
import json
import os
import shlex
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from twofold.errors import TwofoldError, UsageError
from twofold.networks.registry import describe
from twofold.translation import model_file
from twofold.translation.header import Header

OLD_SNAPSHOTS = sorted((Path(__file__).parents[1] / "old_runs").glob("*/snapshots/*.safetensors"))
"""Model files that version 0.1 wrote."""


@pytest.fixture
def network(resnet):
    return resnet(width=2)


@pytest.fixture
def header(network):
    return Header(describe(network), "ab", 32, {"method": "cyclegan", "images": 9})


def test_equal_weights_are_equal_bytes(resnet, header, tmp_path):
    one, two, other = resnet(0, width=2), resnet(0, width=2), resnet(1, width=2)
    for name, each in (("one", one), ("two", two.to(memory_format=torch.channels_last)), ("other", other)):
        model_file.save(each, header, tmp_path / f"{name}.safetensors")
    first, second, third = ((tmp_path / f"{n}.safetensors").read_bytes() for n in ("one", "two", "other"))
    assert first == second != third


def test_the_header_is_sorted_json_without_time_host_or_path(network, header, tmp_path):
    model_file.save(network, header, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "pt") as content:
        metadata = content.metadata()
    assert list(metadata) == ["twofold"]
    stored = json.loads(metadata["twofold"])
    assert metadata["twofold"] == json.dumps(stored, sort_keys=True)
    assert stored == {
        "direction": "ab",
        "dtype": "uint8",
        "format": 1,
        "network": describe(network),
        "noise": False,
        "origin": {"images": 9, "method": "cyclegan"},
        "range": [-1.0, 1.0],
        "size": 32,
    }
    assert os.uname().nodename not in metadata["twofold"] and str(tmp_path) not in metadata["twofold"]


def test_a_saved_model_loads_again(network, header, tmp_path):
    model_file.save(network, header, tmp_path / "x.safetensors")
    loaded, found = model_file.load(tmp_path / "x.safetensors")
    assert found == header
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    for (name, mine), (other, theirs) in zip(
        network.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other and torch.equal(mine, theirs)


@pytest.mark.parametrize("path", OLD_SNAPSHOTS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_snapshot_of_0_1_is_saved_again_with_the_same_bytes(path, tmp_path):
    generator, header = model_file.load(path)
    model_file.save(generator, header, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_failed_save_leaves_the_old_file_alone(network, header, tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    model_file.save(network, header, path)
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        model_file.save(network, header, path)
    assert [each.name for each in tmp_path.iterdir()] == ["x.safetensors"]
    assert path.read_bytes() == before


def write(path, weights, metadata):
    save_file(weights, path, {"twofold": metadata if isinstance(metadata, str) else json.dumps(metadata)})


def valid_header(network):
    return {"network": describe(network), "direction": "ab", "size": 32, "range": [-1, 1], "format": 1}


def refusal(path):
    with pytest.raises(TwofoldError) as caught:
        model_file.load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 400
    return message


def test_a_header_may_leave_out_arguments_with_a_default(network, tmp_path):
    content = valid_header(network)
    del content["network"]["dropout"]
    write(tmp_path / "x.safetensors", network.state_dict(), content)
    assert model_file.load(tmp_path / "x.safetensors")[0].arguments == network.arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "update twofold"),
        ({"format": 3, "network": "unheard of"}, "update twofold"),
        ({"format": 2}, "not a model that twofold wrote"),
        ({"source": {}}, "not a model that twofold wrote"),
        ({"dtype": "uint16"}, "update twofold"),
        ({"range": [0, 1]}, "update twofold"),
        ({"format": "1"}, "not a model that twofold wrote"),
        ({"format": None}, "not a model that twofold wrote"),
        ({"format": 0.5}, "not a model that twofold wrote"),
        ({"network": None}, "not a model that twofold wrote"),
        ({"network": ["resnet"]}, "not a model that twofold wrote"),
        ({"direction": "aa"}, "not a model that twofold wrote"),
        ({"direction": ["ab"]}, "not a model that twofold wrote"),
        ({"size": "32"}, "not a model that twofold wrote"),
        ({"size": -1}, "not a model that twofold wrote"),
        ({"size": True}, "not a model that twofold wrote"),
        ({"size": 10**9}, "not a model that twofold wrote"),
        ({"range": 1}, "not a model that twofold wrote"),
        ({"origin": "nowhere"}, "not a model that twofold wrote"),
        ({"surprise": 1}, "not a model that twofold wrote"),
        ({"network": {}}, "Unknown network"),
        ({"network": {"network": "transformer"}}, "Unknown network"),
        ({"network": {"network": "resnet", "width": 10**12}}, "network with width"),
        ({"network": {"network": "resnet", "width": "__import__('os')"}}, "network with width"),
        ({"network": {"network": "resnet", "width": 4096, "blocks": 64}}, "do not fit the network"),
        ({"network": {"network": "resnet", "width": 2, "blocks": 2}}, "do not fit the network"),
        ({"network": {"network": "unet"}}, "do not fit the network"),
        ({"network": {"network": "unet", "depth": 1}}, "x.safetensors"),
    ],
)
def test_hostile_headers_are_refused(network, tmp_path, change, message):
    path = tmp_path / "x.safetensors"
    write(path, network.state_dict(), valid_header(network) | change)
    assert message in refusal(path)


@pytest.mark.parametrize(
    "metadata",
    ["", "null", "[]", "3", "{", '"x"', "{}", "[" * 5000, "\udcff".encode("utf-8", "replace").decode()],
)
def test_metadata_that_is_not_a_header_is_refused(network, tmp_path, metadata):
    write(tmp_path / "x.safetensors", network.state_dict(), metadata)
    assert "not a model that twofold wrote" in refusal(tmp_path / "x.safetensors")


def test_other_safetensors_are_refused(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "x.safetensors")
    assert "not a model that twofold wrote" in refusal(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w | {"enter.conv.weight": w["enter.conv.weight"].half()},
        lambda w: w | {"enter.conv.weight": w["enter.conv.weight"].double()},
        lambda w: w | {"enter.conv.weight": w["enter.conv.weight"].int()},
        lambda w: w | {"enter.conv.weight": w["enter.conv.weight"][:1].contiguous()},
        lambda w: w | {"enter.conv.weight": w["enter.conv.weight"].flatten()},
        lambda w: w | {"extra": torch.zeros(1)},
        lambda w: {name: tensor for name, tensor in w.items() if name != "leave.conv.bias"},
        lambda w: {"x": torch.zeros(1)},
    ],
)
def test_weights_of_other_kinds_are_refused(network, tmp_path, change):
    write(tmp_path / "x.safetensors", change(network.state_dict()), valid_header(network))
    assert "do not fit the network in its header" in refusal(tmp_path / "x.safetensors")


def test_damaged_files_are_refused(network, header, tmp_path):
    path = tmp_path / "x.safetensors"
    model_file.save(network, header, path)
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    broken = [
        *(b"", b"\0", b"hello world, this is no model", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        *(whole[:4], whole[:100], whole[: 8 + length], whole[:-1], whole + b"\0"),
        *(struct.pack("<Q", 2**63) + whole[8:], struct.pack("<Q", 10**9) + whole[8:]),
        whole[:8] + whole[8 : 8 + length].replace(b"F32", b"F99") + whole[8 + length :],
        whole[:8] + b"\xff" * length + whole[8 + length :],
    ]
    for content in broken:
        path.write_bytes(content)
        assert "copy it again" in refusal(path)


@pytest.mark.parametrize("name", ["x.pth", "x.pt", "my x.ckpt"])
def test_checkpoints_are_referred_to_import(network, tmp_path, name):
    torch.save(network.state_dict(), tmp_path / name)
    with pytest.raises(
        UsageError, match=rf"twofold import {shlex.quote(str(tmp_path / name))} -o model.safetensors"
    ):
        model_file.load(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        model_file.load(tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="has no snapshot of direction ab"):
        model_file.load(tmp_path)
