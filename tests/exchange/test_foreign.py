"""Generators of other projects: the imported network translates as theirs does."""

import random

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from twofold.errors import TwofoldError
from twofold.exchange.foreign import kind_of, remarks
from twofold.exchange.mapping import candidates, choose
from twofold.exchange.original import generator_of, to_original
from twofold.networks.registry import describe, from_description

from .twins import Resnet, Unet

TWINS = {
    "ResNet of the original": lambda: Resnet(),
    "ResNet with three blocks": lambda: Resnet(blocks=3),
    "ResNet with batch norm": lambda: Resnet(norm="batch", bias=False),
    "ResNet with dropout": lambda: Resnet(dropout=True),
    "pix2pixHD, global": lambda: Resnet(halvings=4),
    "pix2pixHD, global, batch norm": lambda: Resnet(halvings=3, norm="batch"),
    "one halving": lambda: Resnet(halvings=1),
    "CUT": lambda: Resnet(up="blur"),
    "PyTorch-GAN": lambda: Resnet(up="resize", inside="block"),
    "scale and bias in InstanceNorm": lambda: Resnet(norm="affine"),
    "scale and bias, no bias in convolutions": lambda: Resnet(norm="affine", bias=False),
    "U-Net": lambda: Unet(),
    "U-Net of 7 levels": lambda: Unet(depth=7, dropout=True),
    "U-Net of 2 levels": lambda: Unet(depth=2),
    "U-Net of 3 levels, InstanceNorm": lambda: Unet(depth=3, norm="instance"),
    "U-Net, scale and bias": lambda: Unet(depth=6, norm="affine"),
}


def randomized(network):
    torch.manual_seed(3)
    for name, value in network.named_parameters():
        with torch.no_grad():
            value.copy_(
                torch.randn_like(value) * (0.2 if value.ndim > 1 else 0.5) + (name.endswith("2.weight"))
            )
    return network


def assert_translates_alike(found, twin):
    """As the original tests: in train mode for the statistics of batch norm, here without dropout."""
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    side = max(found.minimum, 64) * 2
    images = torch.rand(1, 3, side, side) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(
            found.double().eval()(images.double()), twin.double()(images.double()), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("name", TWINS)
def test_an_imported_network_translates_as_its_twin(name):
    twin = randomized(TWINS[name]())
    found = generator_of(twin.state_dict())
    assert {weight.dtype for weight in found.parameters()} == {torch.float32}
    assert_translates_alike(found, twin)
    again = from_description(describe(found))
    again.load_state_dict(found.state_dict())


def convolutions(network):
    return [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.ConvTranspose2d)]


@pytest.mark.parametrize("norm", [spectral_norm, parametrizations.spectral_norm])
@pytest.mark.parametrize("twin", [lambda: Resnet(), lambda: Unet(depth=6, width=3)])
@pytest.mark.filterwarnings("ignore")
def test_spectral_norm_is_computed_into_the_weights(norm, twin):
    twin = randomized(twin())
    for conv in convolutions(twin):
        norm(conv)
    twin.train()(torch.rand(2, 3, 64, 64))  # a step of power iteration
    for conv in convolutions(twin):
        conv.eval()
    found = generator_of(twin.state_dict())
    assert_translates_alike(found, twin)
    assert any("spectral norm is computed" in remark for remark in remarks(twin.state_dict()))


def test_spectral_norm_without_the_right_vector_is_read_and_a_wrong_one_is_refused():
    network = Resnet()
    for conv in convolutions(network):
        spectral_norm(conv)
    network(torch.rand(1, 3, 32, 32))
    state = network.state_dict()
    assert generator_of({name: each for name, each in state.items() if not name.endswith("_v")})
    for wrong in (torch.zeros(3), torch.zeros(0), torch.zeros(2, 2)):
        with pytest.raises(TwofoldError, match=r"norm of model\.1 does not fit"):
            generator_of(state | {"model.1.weight_u": wrong})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype):
    state = {name: each.to(dtype) for name, each in Resnet().state_dict().items()}
    assert {each.dtype for each in generator_of(state).parameters()} == {torch.float32}
    assert str(dtype).removeprefix("torch.") in remarks(state)[0]


def named(*names):
    return {name: torch.zeros(2, 2, 4, 4) for name in names}


RESNET = Resnet(width=1, blocks=1).state_dict()
REFUSED = {
    "projection head of CUT": named("mlp_0.0.weight", "mlp_0.0.bias", "mlp_0.2.weight"),
    "local enhancer": RESNET | named("model1_1.1.weight", "model1_2.0.conv_block.1.weight"),
    "GAN compression": named("model.1.weight", "model.10.conv_block.1.conv.0.weight"),
    "StyleGAN2": named("style.1.weight", "convs.0.conv.modulation.weight"),
    "StyleGAN2 ": named("mapping.fc0.weight", "synthesis.b4.conv1.weight"),
    "diffusion": named(
        "conv_in.weight", "down_blocks.0.resnets.0.conv1.weight", "mid_block.attentions.0.to_q.weight"
    ),
    "diffusion ": named("unet.down_blocks.0.attn.lora_A.weight"),
    "PyTorch-GAN's pix2pix": named("down1.model.0.weight", "up1.model.0.weight"),
    "discriminator": named("model.0.weight", "model.2.weight", "model.5.weight"),
    "discriminator ": named("net.0.weight", "net.2.weight"),
    "discriminator  ": named("scale0_layer0.0.weight"),
    "classifier": named("conv1.weight", "layer1.0.conv1.weight", "fc.weight"),
    "optimizer": named("exp_avg", "exp_avg_sq"),
    "U-GAT-IT": named("DownBlock.1.weight", "UpBlock1_1.norm1.rho", "FC.0.weight"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"state_dict": {f"net.{k}": v for k, v in state.items()}}]
)
def test_other_networks_are_refused_by_name(name, wrap):
    assert kind_of(REFUSED[name]) is None
    found = candidates(wrap(REFUSED[name]))
    with pytest.raises(TwofoldError, match=f"{name.strip()}.*; import") as caught:
        generator_of(choose(found)[1])
    assert "\n" not in str(caught.value)


def test_export_takes_what_the_original_has():
    for name in ("ResNet of the original", "ResNet with three blocks", "CUT", "U-Net", "U-Net of 7 levels"):
        twin = TWINS[name]()
        exported = to_original(generator_of(twin.state_dict()))
        twin.load_state_dict(exported)
        assert list(exported) == list(twin.state_dict()) or name == "CUT"
    for name, reason in {
        "pix2pixHD, global": "4 halvings",
        "PyTorch-GAN": "resize-zero",
        "scale and bias in InstanceNorm": "scale and bias",
        "U-Net of 2 levels": "2 levels",
    }.items():
        with pytest.raises(TwofoldError, match=f"the original has no .*{reason}"):
            to_original(generator_of(TWINS[name]().state_dict()))


def test_one_tensor_under_many_names_takes_no_memory():
    big = torch.zeros(512, 512, 3, 3)
    state = named("model.1.weight") | {
        f"model.{i}.conv_block.{k}.weight": big for i in range(10, 74) for k in (1, 5)
    }
    with pytest.raises(TwofoldError, match="the same tensor"):
        generator_of(state)


def mutated(state, chance):
    """A few names and shapes changed, entries lost, doubled or exchanged."""
    state = dict(state)
    for _ in range(chance.randint(1, 4)):
        name, other = (chance.choice(list(state)) for _ in range(2))
        match chance.randrange(7):
            case 0:
                state.pop(name)
            case 1:
                digits = [i for i, letter in enumerate(name) if letter.isdigit()]
                where = chance.choice(digits or [0])
                state[name[:where] + str(chance.randrange(100)) + name[where + 1 :]] = state[name]
            case 2:
                state[name] = torch.zeros([chance.randrange(6) for _ in range(chance.randrange(6))])
            case 3:
                state[name] = state[other]
            case 4:
                state[name.replace("weight", chance.choice(["filt", "weight_orig", "weight_g"]))] = state.pop(
                    name
                )
            case 5:
                ends = ["weight_u", "weight_v", "running_mean", "weight", "bias", "0._u", ""]
                state[f"{name.rpartition('.')[0]}.{chance.choice(ends)}"] = state[other]
            case _:
                state[chance.choice(["", ".", "model.", "9" * 5000, "a." * 60]) + name] = state[name].to(
                    torch.float16
                )
        if not state:
            break
    return state


def test_mutated_state_dicts_give_one_line_or_a_network():
    chance = random.Random(0)
    originals = [Resnet(width=1, blocks=1), Resnet(width=1, up="blur")]
    originals += [
        Resnet(width=1, norm="batch"),
        Resnet(width=1, norm="affine"),
        Unet(width=1),
        Unet(width=1, depth=2),
    ]
    parametrized = Resnet(width=1, blocks=1)
    for conv in convolutions(parametrized):
        parametrizations.spectral_norm(conv)
    states = [network.state_dict() for network in [*originals, parametrized]]
    made = 0
    for _ in range(250):
        state = mutated(chance.choice(states), chance)
        try:
            _, found = choose(candidates({"G": state}))
            describe(generator_of(found))
            made += 1
        except TwofoldError as error:
            assert str(error).isprintable() and len(str(error)) < 1500
    assert made > 10
