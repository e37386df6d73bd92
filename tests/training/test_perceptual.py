"""A training whose translations are also compared in the features of a network from a file."""

import shutil
import warnings

import pytest
import torch
from torch import nn

from twofold.runs import Run, read_lines


@pytest.fixture
def network(tmp_path):
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(0)
        warnings.simplefilter("ignore")  # torch would rather have torch.export's files
        torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())).save(tmp_path / "net.pt")
    return tmp_path / "net.pt"


@pytest.mark.parametrize(
    ("method", "losses"), [("cyclegan", {"perceptual_a", "perceptual_b"}), ("pix2pix", {"perceptual"})]
)
def test_a_networks_features_are_compared(lab, network, tmp_path, command, method, losses):
    said = {"method": method, "perceptual__network": network, "perceptual__weight": 3}
    size = {"size": 32} if method == "pix2pix" else {}
    start, a, _, *rest = lab.tokens(tmp_path / "run", epochs=1, decay_epochs=1, **said, **size)
    ended = command(start, a, shutil.copytree(a, tmp_path / "same"), *rest)
    assert ended.code == 0 and "Warning" not in ended.output, ended.output
    (report, *_) = read_lines(Run(tmp_path / "run").metrics)
    assert all(report["losses"][name] > 0 for name in losses), report


def test_it_is_found_again_from_another_folder(lab, network, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = {"perceptual__network": "net.pt", "perceptual__weight": 3, "decay_epochs": 0}
    words = [lab.tokens(tmp_path / "run", epochs=epochs, **said) for epochs in (1, 2, 2)]
    assert [command(*each).code for each in words[:2]] == [0, 0]
    monkeypatch.chdir("/")
    assert command("train", "--resume", tmp_path / "run", "--epochs", 3).code == 0
    ended = command(*words[2])
    assert ended.code == 2 and "was started with perceptual.network = " in ended.output


@pytest.mark.parametrize(
    "said", [{"perceptual__network": "net.pt", "perceptual__weight": 3}, {"evaluation__features": "net.pt"}]
)
def test_a_file_that_is_no_network(lab, tmp_path, command, monkeypatch, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pt").write_bytes(b"nothing")
    ended = command(*lab.tokens(tmp_path / "run", **said))
    assert ended.code == 2 and "as TorchScript; save one with" in ended.output, ended.output
    assert not (tmp_path / "run").exists()
