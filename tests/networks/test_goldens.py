"""Every network against the outputs and keys of the original implementation."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from twofold.cpu import accelerate as acceleration
from twofold.cpu.accelerate import accelerate
from twofold.exchange.original import discriminator_from_original, generator_of, to_original

GOLDENS = Path(__file__).parents[1] / "goldens" / "networks.safetensors"
ARCHITECTURE = {
    "resnet_9blocks": {"blocks": 9},
    "resnet_6blocks": {"blocks": 6},
    "unet_256": {"depth": 8, "skips": True},
    "unet_128": {"depth": 7, "skips": True},
}


def read(case):
    with safe_open(GOLDENS, "pt") as file:
        names = [name for name in file.keys() if name.startswith(f"{case}/")]  # noqa: SIM118
        tensors = {name.removeprefix(f"{case}/"): file.get_tensor(name) for name in names}
        expected = json.loads(file.metadata()["cases"])[case]
    return expected, tensors.pop("input"), tensors.pop("output"), tensors


def compare(network, images, output, monkeypatch):
    """Plain, and accelerated with Winograd's convolutions wherever they can be."""
    monkeypatch.setattr(acceleration, "WINOGRAD_FROM", 1)
    for prepare in (lambda network: network, accelerate):
        with torch.no_grad():
            result = prepare(network).double()(images.double() / 127.5 - 1)
        torch.testing.assert_close(result, output.double(), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("case", ["G0", "G1", "G2", "G3", "G4", "G5", "G6"])
def test_generators(case, monkeypatch):
    expected, images, output, state = read(case)
    network = generator_of(state)
    found = network.arguments
    for name in ("in_channels", "out_channels", "width", "norm", "dropout"):
        assert found[name] == expected[name]
    for name, value in ARCHITECTURE[expected["network"]].items():
        assert found[name] == value
    assert to_original(network).keys() == state.keys()
    compare(network, images, output, monkeypatch)


@pytest.mark.parametrize("case", ["D0", "D1", "D2", "D3", "D4", "D5"])
def test_discriminators(case, monkeypatch):
    expected, images, output, state = read(case)
    network = discriminator_from_original(state)
    found = network.arguments
    for name in ("in_channels", "width", "norm"):
        assert found[name] == expected[name]
    assert found.get("layers") == (None if expected["network"] == "pixel" else expected["n_layers"])
    assert to_original(network).keys() == state.keys()
    compare(network, images, output, monkeypatch)
