"""Which state dict of a checkpoint is found and chosen."""

import pytest
import torch

from twofold.errors import TwofoldError, UsageError
from twofold.exchange.mapping import candidates, choose, direction_of, is_generator
from twofold.exchange.original import original_keys
from twofold.exchange.untrusted import Inert
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator


def state_of(network):
    state = network.state_dict()
    return {name: state[ours] for name, ours in original_keys(network).items()}


RESNET = state_of(ResnetGenerator(width=1, blocks=1))
OTHER = state_of(ResnetGenerator(width=2, blocks=1))
UNET = state_of(UnetGenerator(width=1, depth=5))
DISCRIMINATOR = {f"model.{i}.weight": torch.zeros(1, 1, 4, 4) for i in (0, 2, 5, 8)}


def prefixed(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


BOTH = prefixed("G_AB.", RESNET) | prefixed("G_BA.", RESNET) | prefixed("D_A.", DISCRIMINATOR)

FOUND = {
    "a state dict": (RESNET, "."),
    "a U-Net": (UNET, "."),
    "wrapped": ({"epoch": 3, "state_dict": RESNET}, "state_dict"),
    "wrapped twice": ({"model": {"generator": UNET}, "loss": [1.0]}, "model/generator"),
    "in a list": ([3, {"netG": RESNET}], "1/netG"),
    "data parallel": (prefixed("module.", RESNET), "."),
    "compiled": (prefixed("module._orig_mod.", UNET), "."),
    "prefixed": (prefixed("netG.", RESNET), "netG"),
    "prefixed often": (prefixed("a.b.c.", UNET), "a/b/c"),
    "the layers alone": ({name.removeprefix("model."): each for name, each in RESNET.items()}, "."),
    "the layers, other name": (
        {f"main.{name.removeprefix('model.')}": each for name, each in RESNET.items()},
        "main",
    ),
    "the outermost block": ({name.removeprefix("model."): each for name, each in UNET.items()}, "."),
    "with a discriminator": ({"netG": RESNET, "netD": DISCRIMINATOR}, "netG"),
    "a Lightning checkpoint": (
        {"state_dict": prefixed("generator.", RESNET) | prefixed("discriminator.", DISCRIMINATOR)},
        "state_dict/generator",
    ),
    "in an object": (
        Inert("trainer", "Trainer", {"options": Inert("argparse", "Namespace", {}), "G": RESNET}),
        "G",
    ),
    "with an optimizer": (
        {"G": UNET, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1}]}},
        "G",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_generator_is_found(name):
    tree, place = FOUND[name]
    found = candidates(tree)
    chosen, state = choose(found)
    assert chosen == place
    assert is_generator(state)
    assert choose(found, key=place) == (chosen, state)
    expected = RESNET if any(".conv_block." in key for key in state) or "1.weight" in state else UNET
    assert [each.shape for each in state.values()] == [each.shape for each in expected.values()]


def test_a_state_dict_with_both_directions_is_split():
    found = candidates({"state_dict": BOTH})
    assert list(found) == ["state_dict/G_AB", "state_dict/G_BA", "state_dict/D_A"]
    assert choose(found, direction="ba")[0] == "state_dict/G_BA"
    assert choose(found, key="G_AB")[0] == "state_dict/G_AB"
    with pytest.raises(
        UsageError, match=r"2 generators: state_dict/G_AB \(ab\), state_dict/G_BA \(ba\); choose with --dir"
    ):
        choose(found)
    with pytest.raises(UsageError, match=r"no --key 'netG'; it has state_dict/G_AB"):
        choose(found, key="netG")
    with pytest.raises(TwofoldError, match="holds a discriminator"):
        choose(found, key="D_A", direction="ab")


def test_averages_beside_the_weights_are_chosen_by_key():
    found = candidates({"netG": RESNET, "netG_ema": OTHER, "epoch": torch.tensor(3)})
    with pytest.raises(UsageError, match="2 generators: netG, netG_ema; import one with --key NAME"):
        choose(found)
    with pytest.raises(UsageError, match="import one with --key NAME"):
        choose(found, direction="ab")
    assert choose(found, "netG_ema")[1]["model.1.bias"].shape == (2,)
    assert choose(found, "netG")[1]["model.1.bias"].shape == (1,)
    both = candidates({"raw": {"G_A": RESNET, "G_B": RESNET}, "ema": {"G_A": OTHER, "G_B": OTHER}})
    assert choose(both, "ema", "ba")[0] == "ema/G_B"
    with pytest.raises(
        UsageError, match=r"2 generators: raw/G_B \(ba\), ema/G_B \(ba\); import one with --key"
    ):
        choose(both, None, "ba")


def test_files_without_a_generator_say_what_they_hold():
    for tree in (
        {},
        {"epoch": 3},
        torch.zeros(3),
        [torch.zeros(3)],
        {3: torch.zeros(1)},
        {"a": torch.zeros(1).bool()},
    ):
        with pytest.raises(TwofoldError, match="no named weights"):
            choose(candidates(tree))
    with pytest.raises(
        TwofoldError, match=r"not those of a generator that twofold has \(such as 'a.weight'\)"
    ):
        choose(candidates({"a.weight": torch.zeros(1)}))
    with pytest.raises(TwofoldError, match="holds the state of an optimizer"):
        choose(candidates({"state": {0: {"exp_avg": torch.zeros(3)}, 1: {"exp_avg": torch.zeros(3)}}}))
    with pytest.raises(
        TwofoldError, match=r"no generator, but netD \(a discriminator \(net_D\)\), netF \(the projection"
    ):
        choose(candidates({"netD": DISCRIMINATOR, "netF": {"mlp_0.0.weight": torch.zeros(2, 2)}}))


def test_messages_are_one_printable_line():
    tree = {f"\n\x1b[31m{i}" * 50: {"\n.\n": torch.zeros(1)} for i in range(30)}
    for key in (None, "\n" * 200):
        with pytest.raises(TwofoldError) as caught:
            choose(candidates(tree), key)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    ("names", "direction"),
    [
        (
            "netG_A2B G_AB G_A genA2B G_AtoB generator_a2b state_dict/G_AB gen_ab netGA G_x2y G_A_ema ema/G_A g_A_to_B",
            "ab",
        ),
        (
            "netG_B2A G_BA G_B genB2A G_BtoA generator_b2a state_dict/G_BA gen_ba netGB G_yx G_B_ema ema/G_B",
            "ba",
        ),
        (". netG generator state_dict model/ema G net G_1 gan", None),
    ],
)
def test_directions_in_names(names, direction):
    assert {name: direction_of(name) for name in names.split()} == dict.fromkeys(names.split(), direction)
