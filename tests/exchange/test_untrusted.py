"""Checkpoints of every form are read as plain containers and tensors."""

import argparse
import struct
from collections import OrderedDict, defaultdict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import spectral_norm as parametrized

from twofold.errors import TwofoldError, UsageError
from twofold.exchange.stand_ins import Inert
from twofold.exchange.untrusted import read_tree

FORMS = [(True, 2), (True, 4), (False, 1), (False, 2), (False, 5)]  # zip or legacy, pickle protocol


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_block = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4))
        self.register_buffer("grid", torch.zeros(3), persistent=False)
        self.shared = self.conv_block[1]


def network():
    layers = [
        nn.Conv2d(3, 4, 7).bfloat16(),
        nn.BatchNorm2d(4),
        Block(),
        spectral_norm(nn.Conv2d(4, 3, 3)).half(),
    ]
    return nn.DataParallel(nn.Sequential(*layers))


def saved(path, content, form=(True, 2)):
    torch.save(content, path, _use_new_zipfile_serialization=form[0], pickle_protocol=form[1])
    return path


def assert_same(found, expected):
    assert type(found) is dict
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype is tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("form", FORMS)
def test_state_dicts_and_whole_modules_give_the_same_tensors(tmp_path, form):
    module = network()
    expected = module.state_dict()
    assert_same(read_tree(saved(tmp_path / "state.pth", expected, form)), expected)
    assert_same(read_tree(saved(tmp_path / "module.pth", module, form)), expected)
    tree = read_tree(saved(tmp_path / "both.pth", {"netG": module, "epoch": 3}, form))
    assert_same(tree["netG"], expected)
    assert tree["epoch"] == 3


@pytest.mark.parametrize("form", FORMS)
def test_a_training_checkpoint_keeps_its_plain_content(tmp_path, form):
    module = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2)).backward()
    optimizer.step()
    content = {
        "opt": argparse.Namespace(ngf=64, gpu_ids=[0]),
        "optimizer": optimizer.state_dict(),
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "losses": defaultdict(list, a=[0.5]),
        "seen": {1},
        "path": OrderedDict(a=None, b=(True, b"x", "ä", -(2**70))),
    }
    tree = read_tree(saved(tmp_path / "last.ckpt", content, form))
    namespace = tree["opt"]
    assert (namespace.module, namespace.name) == ("argparse", "Namespace")
    assert namespace.state == {"ngf": 64, "gpu_ids": [0]}
    assert tree["optimizer"]["param_groups"][0]["lr"] == 1e-3
    assert torch.equal(
        tree["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"]
    )
    assert isinstance(tree["device"], Inert)
    assert (tree["size"], tree["losses"], tree["seen"]) == ((1, 2), {"a": [0.5]}, [1])
    assert tree["path"]["a"] is None
    assert tree["path"]["b"][::2] == (True, "ä")
    assert tree["path"]["b"][3] == -(2**70)


def test_every_dtype_shape_and_stride_is_kept(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        str(dtype): torch.ones(2, dtype=dtype) for dtype in (torch.int8, torch.uint8, torch.bool, torch.int64)
    }
    content |= {"part": base[1:, 2:4], "turned": base.T, "one": torch.tensor(3.5), "none": torch.zeros(0, 5)}
    tree = read_tree(saved(tmp_path / "net.pth", content | {"other": torch.ones(5, dtype=torch.uint16)}))
    assert isinstance(tree.pop("other"), Inert)
    assert_same(tree, content)
    assert tree["part"].untyped_storage().data_ptr() == tree["turned"].untyped_storage().data_ptr()


def test_safetensors_are_read(tmp_path):
    content = {"model.1.weight": torch.ones(2, 3), "half": torch.zeros(2, dtype=torch.bfloat16)}
    save_file(content, tmp_path / "net.safetensors")
    assert_same(read_tree(tmp_path / "net.safetensors"), content)


def test_spectral_norm_of_parametrizations_is_kept_by_name(tmp_path):
    expected = parametrized(nn.Conv2d(2, 2, 3)).state_dict()
    assert "parametrizations.weight.original" in expected
    assert_same(read_tree(saved(tmp_path / "net.pth", expected)), expected)


def test_expanded_tensors_are_not_read(tmp_path):
    tree = read_tree(saved(tmp_path / "net.pth", {"a": torch.zeros(1).expand(10**12), "b": torch.ones(1)}))
    assert isinstance(tree["a"], Inert)
    assert torch.equal(tree["b"], torch.ones(1))


def test_containers_that_contain_themselves_end(tmp_path):
    content = {"a": torch.ones(1), "list": []}
    content["list"].append(content)
    deep = []
    for _ in range(150):
        deep = [deep]
    content["deep"] = deep
    tree = read_tree(saved(tmp_path / "net.pth", content))
    assert torch.equal(tree["a"], torch.ones(1))
    assert isinstance(tree["list"][0], Inert)


def test_incomplete_files_are_named(tmp_path):
    for zipped, missing in ((True, ", and its end is missing"), (False, r" of at least 4\d,\d{3}")):
        path = saved(tmp_path / "net.pth", {"a": torch.ones(5000), "b": torch.ones(5000)}, (zipped, 2))
        whole = path.read_bytes()
        path.write_bytes(whole[:30_000])
        with pytest.raises(TwofoldError, match=f"net.pth is incomplete: it has 30,000 bytes{missing};"):
            read_tree(path)
        path.write_bytes(whole[:200])
        with pytest.raises(TwofoldError, match=r"incomplete: it has 200 bytes|damaged"):
            read_tree(path)


def test_damaged_numbers_are_found(tmp_path):
    path = saved(tmp_path / "net.pth", {"a": torch.full((1000,), 2.5)})
    path.write_bytes(path.read_bytes().replace(struct.pack("<2f", 2.5, 2.5), struct.pack("<2f", 2.5, 3), 1))
    with pytest.raises(TwofoldError, match="damaged; download or copy it again"):
        read_tree(path)


def test_a_missing_file_or_a_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        read_tree(tmp_path / "none.pth")
    with pytest.raises(UsageError, match="is a folder"):
        read_tree(tmp_path)
