import pytest
import torch
from torch import nn

from twofold.errors import TwofoldError
from twofold.exchange.mapping import candidates, choose
from twofold.exchange.original import (
    discriminator_from_original,
    generator_of,
    original_keys,
    to_original,
)
from twofold.networks.discriminators import ImageDiscriminator, PatchDiscriminator, PixelDiscriminator
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator

NORMS = ["instance", "batch", "none"]


def generators():
    for norm in NORMS:
        for dropout in (False, True):
            yield ResnetGenerator(1, 4, width=2, blocks=3, norm=norm, dropout=dropout)
            yield UnetGenerator(4, 1, width=1, depth=6, norm=norm, dropout=dropout)
    yield UnetGenerator(width=1, depth=5)


def discriminators():
    for norm in NORMS:
        yield from (PatchDiscriminator(5, width=2, layers=layers, norm=norm) for layers in (1, 2, 3, 6))
        yield PixelDiscriminator(2, width=3, norm=norm)


def assert_same(found, network):
    assert type(found) is type(network)
    assert found.arguments == network.arguments
    assert str(found) == str(network)
    for (name, ours), (other, theirs) in zip(
        found.state_dict().items(), network.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(ours, theirs)
    grads = [[weight.requires_grad for weight in each.parameters()] for each in (found, network)]
    assert grads[0] == grads[1]


def test_generators_survive_export_and_import():
    for network in generators():
        dropout = bool(network.arguments["dropout"]) and isinstance(network, UnetGenerator)
        assert_same(generator_of(to_original(network), dropout=dropout), network)


def test_discriminators_survive_export_and_import():
    for network in discriminators():
        assert_same(discriminator_from_original(to_original(network)), network)


def test_keys_are_in_the_originals_order():
    """As the original's modules are nested, each U-Net level around the next."""
    state = to_original(UnetGenerator(width=1, depth=5, norm="none"))
    deep = "model.model.1.model.3.model.3.model.3.model"
    assert list(state) == [
        "model.model.0.weight",
        "model.model.1.model.1.weight",
        "model.model.1.model.3.model.1.weight",
        "model.model.1.model.3.model.3.model.1.weight",
        f"{deep}.1.weight",
        f"{deep}.3.weight",
        "model.model.1.model.3.model.3.model.5.weight",
        "model.model.1.model.3.model.5.weight",
        "model.model.1.model.5.weight",
        "model.model.3.weight",
        "model.model.3.bias",
    ]
    state = to_original(ResnetGenerator(width=1, blocks=1, norm="batch", dropout=True))
    assert [name for name in state if name.startswith("model.10.")] == [
        "model.10.conv_block.1.weight",
        *(f"model.10.conv_block.2.{entry}" for entry in nn.BatchNorm2d(1).state_dict()),
        "model.10.conv_block.6.weight",
        *(f"model.10.conv_block.7.{entry}" for entry in nn.BatchNorm2d(1).state_dict()),
    ]
    assert len(to_original(ResnetGenerator(width=1, norm="batch", dropout=True))) == 140


def test_old_running_statistics_and_parallel_prefixes_are_dropped():
    network = ResnetGenerator(width=2, blocks=2, dropout=True)
    state = to_original(network)
    for layer in ("model.2", "model.10.conv_block.2", "model.10.conv_block.7"):
        state |= {f"{layer}.running_mean": torch.zeros(2), f"{layer}.running_var": torch.ones(2)}
        state[f"{layer}.num_batches_tracked"] = torch.tensor(3)
    _, found = choose(candidates({f"module.{name}": t for name, t in state.items()}))
    assert_same(generator_of(found), network)
    discriminator = PatchDiscriminator(width=2)
    state = to_original(discriminator) | {
        "model.3.running_mean": torch.zeros(4),
        "model.3.running_var": torch.ones(4),
    }
    assert_same(discriminator_from_original(state), discriminator)


def test_half_precision_weights_become_float32():
    network = ResnetGenerator(width=2, blocks=1)
    state = {name: tensor.half() for name, tensor in to_original(network).items()}
    found = generator_of(state)
    assert {weight.dtype for weight in found.parameters()} == {torch.float32}
    assert torch.equal(found.enter.conv.weight, network.enter.conv.weight.half().float())


def test_an_imported_network_shares_no_memory_with_the_file():
    state = to_original(PixelDiscriminator(width=2))
    found = discriminator_from_original(state)
    with torch.no_grad():
        found.convs[0].weight.add_(1)
    assert not torch.equal(found.convs[0].weight, state["net.0.weight"])


def test_an_image_discriminator_is_imported_as_a_patch_discriminator():
    network = ImageDiscriminator(width=1)
    found = discriminator_from_original(to_original(network))
    assert type(found) is PatchDiscriminator
    assert found.arguments["layers"] == 5


@pytest.mark.parametrize(
    "network",
    [
        ResnetGenerator(width=1, blocks=1, upsample="resize"),
        UnetGenerator(width=1, depth=5, upsample="resize"),
        UnetGenerator(width=1, depth=5, skips=False),
        UnetGenerator(width=1, depth=4),
        ResnetGenerator(width=1, blocks=1, halvings=3),
        ResnetGenerator(width=1, blocks=1, norm="instance-affine"),
    ],
)
def test_networks_that_the_original_lacks_are_not_exported(network):
    with pytest.raises(TwofoldError, match=r"the original has no (ResNet|U-Net) (with|of)"):
        to_original(network)


def test_a_discriminator_is_not_read_as_a_generator_nor_the_reverse():
    for network in discriminators():
        with pytest.raises(TwofoldError, match="file holds a discriminator"):
            generator_of(to_original(network))
    for network in generators():
        with pytest.raises(TwofoldError, match="file holds a generator"):
            discriminator_from_original(to_original(network))


def resnet_state():
    return to_original(ResnetGenerator(width=2, blocks=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.18.weight": torch.zeros(2)}, "has 'model.18.weight'"),
        ({"model.4.weight": torch.zeros(4, 2, 5, 5)}, r"model.4.weight has the shape \(4, 2, 5, 5\)"),
        ({"model.4.weight": None}, "lacks model.4.weight"),
        ({"model.19.weight": None}, "model.19.weight is missing"),
        ({"model.1.weight": torch.zeros(0, 3, 7, 7)}, "model.1.weight is missing or not a convolution"),
        ({"model.1.weight": torch.zeros(2)}, "model.1.weight is missing or not a convolution"),
        ({"model.7.filt": torch.zeros(4, 1, 3, 3)}, "lacks model.11.filt|is missing or not"),
        ({"model.1.weight": None}, "not those of a generator that twofold has"),
        ({"model.400000.conv_block.1.weight": torch.zeros(1)}, "blocks: 399991"),
        ({"model.1.weight": torch.zeros(5000, 0, 7, 7)}, "not a convolution"),
        ({"model.1.weight": torch.zeros(5000, 1, 1, 1)}, "at most 4096 channels"),
    ],
)
def test_keys_that_do_not_fit_are_named(change, message):
    state = {name: t for name, t in (resnet_state() | change).items() if t is not None}
    with pytest.raises(TwofoldError, match=message) as caught:
        generator_of(state)
    assert "\n" not in str(caught.value)


def test_shallow_networks():
    network = UnetGenerator(width=1, depth=2, norm="none")
    state = network.state_dict()
    assert_same(generator_of({name: state[ours] for name, ours in original_keys(network).items()}), network)
    state = to_original(UnetGenerator(width=1, depth=5, norm="none"))
    shallow = {name: tensor for name, tensor in state.items() if name.count("model") < 5}
    with pytest.raises(TwofoldError, match=r"lacks|shape"):
        generator_of(shallow)
    with pytest.raises(TwofoldError, match="of 1 convolutions"):
        discriminator_from_original({"model.0.weight": torch.zeros(1, 1, 4, 4)})
    with pytest.raises(TwofoldError, match="not those"):
        discriminator_from_original({"weight": torch.zeros(1, 1)})
