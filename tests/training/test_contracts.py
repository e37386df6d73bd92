"""Runs on images of 16 bits and of many channels: every method, bf16, resume."""

import json
import signal

import numpy as np
import pytest
import torch
import yaml

from twofold.config import compose
from twofold.formats import images
from twofold.formats.contract import Contract, Labels
from twofold.formats.values import from_network
from twofold.methods.settings import ROOMS
from twofold.networks.layers import initialise
from twofold.networks.registry import build_generator
from twofold.runs import Run, read_lines
from twofold.training.build import METHODS, build
from twofold.training.float32_layers import keep_last_layer_float32
from twofold.training.train import trainer_for

LAYERS = {"cut__layers": "0,4,8", "cut__patches": 8, "cut__head_width": 4}
DEEP = Contract("uint16", 6, (0.0,), (4095.0,)), Contract("int16", 1, (-1000.0,), (3000.0,))


def draw(i, kind, side=40):
    rng = np.random.default_rng([i, *kind.encode()])
    match kind:
        case "six":
            return rng.integers(0, 4000, (side, side, 6)).astype(np.uint16)
        case "twelve":
            return rng.integers(87, 3912, (side, side, 1)).astype(np.uint16)
        case "ct":
            return rng.integers(-1024, 3000, (side, side, 1)).astype(np.int16)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of three images with the same names: "six" channels of uint16, "twelve" bits, and "ct" in int16."""
    home = tmp_path_factory.mktemp("deep")
    for kind, suffix in (("six", "npy"), ("twelve", "png"), ("ct", "tif")):
        for i in range(3):
            images.write(draw(i, kind), home / kind / f"{i}.{suffix}")
    return home


def tokens(lab, home, a, b, out, **changes):
    words = lab.tokens(out, **LAYERS, **changes)
    return [words[0], str(home / a), str(home / b), *words[3:]]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_deep_images(lab, folders, command, tmp_path, method, precision):
    a = "twelve" if ROOMS[method] == "cut" else "six"
    size = {"size": 32} if method == "pix2pix" else {}
    changes = {"method": method, "epochs": 1, "decay_epochs": 1, "machine__precision": precision, **size}
    ended = command(*tokens(lab, folders, a, "ct", tmp_path / "run", **changes))
    assert ended.code == 0, ended.output
    run = Run(tmp_path / "run")
    document = json.loads(run.data.read_text())
    assert document["a"]["contract"]["dtype"] == "uint16" and document["a"]["contract"]["found"] == "bits"
    assert document["b"]["contract"]["dtype"] == "int16" and document["b"]["contract"]["channels"] == 1
    assert yaml.safe_load(run.config.read_text())["data"]["channels_a"] == (1 if a == "twelve" else 6)
    losses = read_lines(run.metrics)[-1]
    assert all(np.isfinite(value) for value in losses.values() if isinstance(value, float))
    assert "A: uint16, " in ended.output and "B: int16, 1 channel, values " in ended.output


def test_cut_needs_as_many_channels_on_both_sides(lab, folders, command, tmp_path):
    ended = command(*tokens(lab, folders, "six", "ct", tmp_path / "run", method="cut"))
    assert ended.code == 2 and "cut needs as many channels in A (6) as in B (1)" in ended.output


def test_a_range_on_the_command_line(lab, folders, command, tmp_path, monkeypatch):
    words = tokens(lab, folders, "ct", "ct", tmp_path / "run", epochs=1, decay_epochs=0)
    words[2] = str(folders / "six")
    given = ["--data.range-a", "-1024", "3071", "--data.range-b", "per-channel"]
    assert command(*words[:1], *given, *words[1:]).code == 0
    data = json.loads(Run(tmp_path / "run").data.read_text())
    assert (data["a"]["contract"]["low"], data["a"]["contract"]["high"]) == ([-1024], [3071])
    assert data["a"]["contract"]["found"] == "settings" and len(data["b"]["contract"]["high"]) == 6
    assert yaml.safe_load(Run(tmp_path / "run").config.read_text())["data"]["range_a"] == [-1024, 3071]
    resumed = command(
        "train", "--resume", tmp_path / "run", "--data.range-a", "-1024", "3071", "--epochs", "2"
    )
    assert resumed.code == 0, resumed.output
    ended = command("train", "--resume", tmp_path / "run", "--data.range-a", "0", "9")
    assert ended.code == 2 and "was started with data.range_a = -1024.0 3071.0, not " in ended.output
    for wrong, message in (
        (("5", "3"), "--data.range-a: 5 3 is no range: LOW must be under HIGH"),
        (("nan", "3"), "--data.range-a: nan 3 is no range"),
        (("all",), "--data.range-a: all is neither LOW HIGH nor per-channel"),
        (("5", "--seed=1"), "--data.range-a: 5 --seed=1 is neither"),
    ):
        ended = command(*words, "--data.range-a", *wrong)
        assert ended.code == 2 and message in ended.output and ended.output.count("\n") == 1
    monkeypatch.setenv("TWOFOLD_SET_DATA__RANGE_A", "0 4095")
    words[words.index(str(tmp_path / "run"))] = str(tmp_path / "other")
    ended = command(*words, "--dry-run")
    assert "range_a:\n  - 0.0\n  - 4095.0" in ended.output


def test_a_killed_run_on_sixteen_bits_ends_as_if_nothing_had_happened(lab, folders, tmp_path):
    changes = {
        "machine__channels_last": True,
        "machine__precision": "bf16",
        "data__augment": "vertical,turns",
    }
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    assert lab.run(tokens(lab, folders, "twelve", "ct", undisturbed, **changes)).code == 0
    killed = lab.run(tokens(lab, folders, "twelve", "ct", out, **changes), ("after rename", 2))
    assert killed.code == -signal.SIGKILL, killed.output
    assert lab.run(tokens(lab, folders, "twelve", "ct", out, **changes)).code == 0
    assert lab.outcome(out) == lab.outcome(undisturbed)


# ---- the last layer under bf16

GENERATORS = {
    "resnet": {"name": "resnet-6", "width": 8, "size": 32},
    "skips": {"name": "resnet-6", "width": 8, "size": 32, "skips": True},
    "resize": {"name": "resnet-6", "width": 8, "size": 32, "upsample": "resize"},
    "unet": {"name": "unet", "width": 4, "size": 32, "norm": "instance"},
    "unet, blur": {"name": "unet", "width": 4, "size": 32, "norm": "instance", "upsample": "blur"},
}


def generator(kind):
    torch.manual_seed(0)
    network = build_generator(in_channels=1, out_channels=1, **GENERATORS[kind])
    initialise(network, "xavier", 1.0)
    return network.to(memory_format=torch.channels_last)


def last_layer(network):
    return [
        module
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    ][-1]


@pytest.mark.parametrize("kind", GENERATORS)
def test_outputs_have_more_levels_than_bf16(kind):
    image = torch.linspace(-1, 1, 4 * 96 * 96).reshape(4, 1, 96, 96)
    levels = {}
    for deep in (False, True):
        network = generator(kind)
        if deep:
            keep_last_layer_float32(network)
        with torch.autocast("cpu", torch.bfloat16):
            made = network(image)
        levels[deep] = len(from_network(made, DEEP[0]).to(torch.int32).unique())
        if deep:
            assert made.dtype == torch.float32
            assert torch.equal(network(image), generator(kind)(image))  # without autocast nothing changes
            assert list(network.state_dict()) == list(generator(kind).state_dict())
    assert levels[True] > 1278 >= (levels[False] if kind != "skips" else 0), (
        levels
    )  # the skips add float32 images


@pytest.mark.parametrize("kind", GENERATORS)
def test_the_gradients_are_those_of_a_float32_layer(kind):
    network = generator(kind)
    keep_last_layer_float32(network)
    layer, seen = last_layer(network), []
    layer.register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
    image = torch.rand(1, 1, 32, 32) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        loss = (network(image) - image).abs().mean()
    (given, made), *_ = seen
    given.retain_grad()
    made.retain_grad()
    loss.backward()
    twin = given.detach().float().requires_grad_()
    plain = torch.nn.Conv2d if isinstance(layer, torch.nn.Conv2d) else torch.nn.ConvTranspose2d
    again = plain.forward(layer, twin)
    assert torch.equal(again, made) and made.dtype == torch.float32
    assert torch.allclose(
        torch.autograd.grad(again, layer.weight, made.grad, retain_graph=True)[0],
        layer.weight.grad,
        rtol=1e-4,
        atol=1e-7,
    )
    back = torch.autograd.grad(again, twin, made.grad)[0]
    assert torch.allclose(back, given.grad.float(), rtol=0.01, atol=1e-6)


def test_only_generators_of_deep_images_are_changed():
    config = compose(
        {
            "a": "A",
            "b": "B",
            "data": {"channels_a": 6, "channels_b": 1, "size": 32},
            "generator": {"width": 4},
        }
    )
    method = build(config, (Contract(channels=6), DEEP[1]))
    kinds = {name: type(last_layer(getattr(method, name))).__name__ for name in ("gen_ab", "gen_ba")}
    assert kinds == {"gen_ab": "Float32Conv2d", "gen_ba": "Conv2d"}
    assert type(last_layer(build(config).gen_ab)) is torch.nn.Conv2d


def test_averaged_generators_have_the_layer_too():
    changes = {
        "training": {"ema": 5},
        "machine": {"precision": "bf16", "device": "cpu", "channels_last": True},
    }
    config = compose(
        {
            "a": "A",
            "b": "B",
            "data": {"channels_a": 6, "channels_b": 1, "size": 32},
            "generator": {"width": 4},
        },
        changes,
    )
    trainer = trainer_for(config, build(config, DEEP), torch.device("cpu"))
    layer = last_layer(trainer.generator("ab"))
    assert type(layer).__name__ == "Float32Conv2d" and layer is not last_layer(trainer.method.gen_ab)


def test_one_hot_labels_widen_the_networks():
    labels = Labels(tuple((i,) for i in range(19)), onehot=True)
    config = compose(
        {
            "a": "A",
            "b": "B",
            "data": {"channels_a": 1, "channels_b": 3, "size": 32},
            "generator": {"width": 4},
        }
    )
    method = build(config, (Contract(channels=1, labels=labels), Contract()))
    assert method.gen_ab.arguments["in_channels"] == 19 and method.gen_ba.arguments["out_channels"] == 19
