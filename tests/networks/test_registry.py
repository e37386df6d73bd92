import json
from typing import get_args

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import TwofoldError, UsageError
from twofold.networks import layers, registry, settings
from twofold.networks.blur import BlurDown
from twofold.networks.discriminators import ImageDiscriminator, PatchDiscriminator, PixelDiscriminator
from twofold.networks.registry import (
    automatic_generator,
    build_discriminator,
    build_generator,
    check_size,
    describe,
    from_description,
    unet_depth,
)
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.resnet_skips import SkipResnetGenerator
from twofold.networks.unet import UnetGenerator


def generator(name, size=256, norm="instance", width=64, **others):
    chosen = {"dropout": False, "upsample": "transposed", "skips": False, "antialias": False} | others
    return build_generator(name, in_channels=3, out_channels=3, width=width, norm=norm, size=size, **chosen)


def discriminator(name="patch", in_channels=3, width=64, layers=3, norm="instance"):
    return build_discriminator(name, in_channels=in_channels, width=width, layers=layers, norm=norm)


def count(network):
    return sum(weight.numel() for weight in network.parameters())


def options(model, name):
    return get_args(model.model_fields[name].annotation)


def test_settings_name_what_the_registry_has():
    ours = settings.GeneratorSettings
    assert options(ours, "network") == ("auto", *registry.GENERATORS)
    assert options(ours, "norm") == get_args(layers.NormName)
    assert options(ours, "upsample") == get_args(layers.UpsampleName)
    assert options(ours, "init") == get_args(layers.InitName)
    discriminator = settings.DiscriminatorSettings
    assert options(discriminator, "network") == tuple(registry.DISCRIMINATORS)
    assert options(discriminator, "norm") == get_args(layers.NormName)
    assert options(discriminator, "init") == get_args(layers.InitName)


def test_every_setting_says_what_it_is():
    for model in (settings.GeneratorSettings, settings.DiscriminatorSettings):
        assert all(field.description for field in model.model_fields.values())


def test_full_size_networks_have_the_originals_parameter_counts():
    with torch.device("meta"):
        assert count(generator("resnet-9")) == 11_378_179
        assert count(generator("resnet-6")) == 7_837_699
        assert count(generator("unet-256", norm="batch")) == 54_413_955
        assert count(generator("unet-128", norm="batch")) == 41_828_995
        assert count(discriminator()) == 2_764_737
        assert count(discriminator(in_channels=6, norm="batch")) == 2_768_705


def test_auto_is_nine_blocks_from_256_px():
    assert [automatic_generator(size) for size in (64, 255, 256, 512)] == ["resnet-6"] * 2 + ["resnet-9"] * 2


def test_the_unets_depth_follows_the_size():
    sizes = {32: 5, 96: 5, 64: 6, 192: 6, 128: 7, 256: 8, 512: 8, 1024: 8, 286 * 32: 6}
    assert {size: unet_depth(size) for size in sizes} == sizes
    with torch.device("meta"):
        assert generator("unet", size=192).arguments["depth"] == 6
        assert generator("encoder-decoder", size=128).arguments["depth"] == 7
        assert generator("encoder-decoder", size=128).arguments["skips"] is False


@pytest.mark.parametrize(("size", "advice"), [(100, "96 or 128"), (16, "use 32"), (286, "256 or 288")])
def test_a_size_no_unet_takes_is_refused_with_its_neighbours(size, advice):
    with pytest.raises(UsageError, match=advice):
        generator("unet", size=size)


def test_a_size_the_named_network_does_not_take_is_refused():
    with torch.device("meta"):
        with pytest.raises(UsageError, match=r"multiples of 256, from 256 up, not 128×128"):
            generator("unet-256", size=128)
        with pytest.raises(UsageError, match=r"multiples of 4, from 8 up, not 130×130"):
            generator("resnet-6", size=130)


SMALL = [
    (ResnetGenerator(1, 1, width=1, blocks=1), 28),
    (ResnetGenerator(1, 1, width=1, blocks=1, norm="batch", upsample="resize"), 28),
    (UnetGenerator(1, 1, width=1, depth=5), 70),
    (UnetGenerator(1, 1, width=1, depth=5, norm="instance", skips=False, upsample="resize"), 70),
]


def fits(network, height, width):
    try:
        check_size(network, height, width)
    except UsageError:
        return False
    return True


def runs(network, height, width):
    try:
        with torch.no_grad():
            return network(torch.randn(1, 1, height, width)).shape == (1, 1, height, width)
    except (RuntimeError, ValueError):
        return False


@pytest.mark.parametrize(("network", "until"), SMALL)
def test_a_generator_takes_the_sizes_it_says_and_keeps_them(network, until):
    for side in range(1, until):
        assert runs(network, side, side) == fits(network, side, side), side
    least = network.minimum
    for height, width in ((least, 2 * least), (3 * least, least), (least, least + 1), (least - 1, 2 * least)):
        assert runs(network, height, width) == fits(network, height, width)


@hypothesis.settings(deadline=None, max_examples=50)
@given(height=st.integers(1, 600), width=st.integers(1, 600), depth=st.integers(5, 8))
def test_the_size_rule_is_about_both_sides(height, width, depth):
    with torch.device("meta"):
        network = UnetGenerator(1, 1, width=1, depth=depth)
    multiple = 2**depth
    assert fits(network, height, width) == (height % multiple == 0 and width % multiple == 0)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("name", ["patch", "pixel", "image"])
def test_a_discriminator_gives_logits_from_its_minimum_on(name, norm):
    for depth in (1, 2, 3, 4) if name == "patch" else (3,):
        network = discriminator(name, in_channels=1, width=1, layers=depth, norm=norm)
        least = network.minimum
        for side in {*range(1, 13), *range(least - 2, least + 3)} - {0, -1}:
            try:
                logits = network(torch.randn(1, 1, side, side))
                assert logits.shape[:2] == (1, 1)
                works = logits.numel() >= 1
            except (RuntimeError, ValueError):
                works = False
            assert works == (side >= least) == fits(network, side, side), side


def test_a_small_image_is_refused_by_the_discriminator_in_words():
    with pytest.raises(
        UsageError, match="discriminator needs a height and width that are 24 pixels at least"
    ):
        check_size(discriminator(width=1), 64, 23)


def test_a_patch_is_70_pixels_wide():
    """Of one logit, only the 70×70 pixels around it are seen."""
    network = discriminator(width=2, norm="none").double()
    image = torch.randn(1, 3, 256, 256, dtype=torch.float64, requires_grad=True)
    logits = network(image)
    assert logits.shape == (1, 1, 30, 30)
    logits[0, 0, 15, 15].backward()
    rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == 70


def test_image_gan_is_five_layers_averaged():
    torch.manual_seed(0)
    image = discriminator("image", width=2).double()
    patch = PatchDiscriminator(3, width=2, layers=5).double()
    patch.load_state_dict(image.state_dict())
    x = torch.randn(2, 3, 160, 128, dtype=torch.float64)
    logit = image(x)
    assert logit.shape == (2, 1, 1, 1)
    torch.testing.assert_close(logit.flatten(), patch(x).flatten(1).mean(1))
    assert isinstance(image, ImageDiscriminator)
    assert isinstance(discriminator("pixel"), PixelDiscriminator)


def test_discriminators_of_several_depths():
    discriminators = build_discriminator(
        "patch", in_channels=3, width=2, layers=3, norm="instance", extra_layers=(1, 2), count=2, scales=2
    )
    depths = [
        [discriminator.arguments["layers"] for discriminator in scale] for scale in discriminators.scales
    ]
    assert depths == [[3, 3, 1, 1, 2, 2]] * 2
    assert discriminators.minimum == 48  # that of the deepest, on the second scale
    logits = discriminators(torch.rand(1, 3, 48, 48))
    assert [tuple(x.shape[2:]) for x in logits[::2]] == [(4, 4), (22, 22), (10, 10), (1, 1), (10, 10), (4, 4)]
    shallow = build_discriminator(
        "patch", in_channels=3, width=2, layers=1, norm="instance", extra_layers=(3,)
    )
    assert shallow.minimum == 24


DESCRIBABLE = [
    ResnetGenerator(1, 2, width=3, blocks=4, norm="none", dropout=True, upsample="resize"),
    SkipResnetGenerator(3, 3, width=2, blocks=1),
    SkipResnetGenerator(3, 3, width=2, blocks=3, halvings=3),
    UnetGenerator(4, 1, width=2, depth=6, norm="batch", dropout=True, skips=False, upsample="resize"),
]


@pytest.mark.parametrize("network", DESCRIBABLE)
def test_a_description_rebuilds_the_network(network):
    described = json.loads(json.dumps(describe(network), sort_keys=True))
    rebuilt = from_description(described)
    assert describe(rebuilt) == describe(network)
    assert str(rebuilt) == str(network)  # all layers, their sizes and switches
    rebuilt.load_state_dict(network.state_dict())


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"network": "diffusion"},
        {"network": ["resnet"]},
        {"network": "resnet", "antialias": 1},
        {"network": "resnet", "halvings": 0},
        {"network": "resnet", "halvings": 64},
        {"network": "unet", "halvings": 2},
        {"network": "unet", "antialias": True},
        {"network": "resnet", "width": 0},
        {"network": "resnet", "width": True},
        {"network": "resnet", "width": 10**9},
        {"network": "resnet", "norm": "spectral"},
        {"network": "resnet", "norm": ["batch"]},
        {"network": "resnet", "dropout": 0.5},
        {"network": "unet", "upsample": None},
    ],
)
def test_a_description_of_something_else_is_refused_in_one_line(wrong):
    with pytest.raises(TwofoldError, match="newer twofold") as caught:
        from_description(wrong)
    assert "\n" not in str(caught.value)


def test_antialiasing_blurs_before_it_halves():
    blur = BlurDown(2).double()
    image = torch.rand(1, 2, 6, 8).double()
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="reflect")
    expected = torch.zeros(1, 2, 3, 4).double()
    for y in range(3):
        for x in range(4):
            for dy, a in enumerate((1, 2, 1)):
                for dx, b in enumerate((1, 2, 1)):
                    expected[:, :, y, x] += a * b / 16 * padded[:, :, 2 * y + dy, 2 * x + dx]
    torch.testing.assert_close(blur(image), expected)


def test_networks_with_every_option_take_their_smallest_image():
    for upsample in get_args(layers.UpsampleName):
        network = ResnetGenerator(3, 2, width=2, blocks=1, upsample=upsample, antialias=True)
        side = network.minimum
        assert network(torch.rand(1, 3, side, 2 * side)).shape == (1, 2, side, 2 * side)
    discriminators = [
        build_discriminator("patch", in_channels=3, width=2, layers=2, norm="instance", antialias=True),
        build_discriminator("pytorch-gan", in_channels=3, width=2, layers=3, norm="instance"),
        build_discriminator("image", in_channels=3, width=2, layers=3, norm="none", spectral=True),
    ]
    for discriminator in discriminators:
        check_size(discriminator, discriminator.minimum, discriminator.minimum)
        assert discriminator(torch.rand(2, 3, discriminator.minimum, discriminator.minimum)).shape[:2] == (
            2,
            1,
        )
    assert discriminators[1](torch.rand(1, 3, 64, 96)).shape == (1, 1, 4, 6)


def test_several_discriminators_have_weights_of_their_own_and_halved_images():
    torch.manual_seed(0)
    discriminators = build_discriminator(
        "patch", in_channels=3, width=2, layers=1, norm="instance", scales=2, count=2
    )
    image = torch.rand(1, 3, 24, 32)
    logits = discriminators(image)
    assert [tuple(x.shape[2:]) for x in logits] == [(10, 14), (10, 14), (4, 6), (4, 6)]
    assert len({x.sum().item() for x in logits}) == 4
    smaller = torch.nn.functional.avg_pool2d(image, 3, 2, 1, count_include_pad=False)
    torch.testing.assert_close(discriminators.scales[1][0](smaller), logits[2])
    assert discriminators.minimum == 2 * discriminators.scales[0][0].minimum


@pytest.mark.parametrize("halvings", [1, 2, 3])
@pytest.mark.parametrize("skips", [False, True])
def test_a_resnet_halves_as_often_as_it_is_told(halvings, skips):
    chosen = {"width": 2, "upsample": "resize", "skips": skips, "blocks": 2, "halvings": halvings}
    network = generator("resnet-6", 32, **chosen)
    assert isinstance(network, ResnetGenerator)
    side, seen = network.minimum, []
    assert network.multiple_of == 2**halvings
    network.blocks[-1].register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape)))
    assert network(torch.rand(1, 3, side, 2 * side)).shape == (1, 3, side, 2 * side)
    assert seen == [(1, 2 * 2**halvings, 2, 4)]
    assert len(network.blocks) == 2 and isinstance(network, SkipResnetGenerator) == skips
    with pytest.raises(UsageError, match=f"multiples of {2**halvings}"):
        generator("resnet-6", 33, **chosen)


def test_options_that_a_network_does_not_have_are_refused():
    with pytest.raises(UsageError, match="antialias is for ResNets, not for unet"):
        generator("unet", 64, "batch", width=2, skips=True, antialias=True)
    with pytest.raises(UsageError, match="for patch and image, not for pixel"):
        build_discriminator("pixel", in_channels=3, width=2, layers=3, norm="instance", antialias=True)


def test_initialising_reaches_the_weights_under_spectral_norm():
    discriminator = build_discriminator(
        "patch", in_channels=3, width=4, layers=1, norm="instance", spectral=True
    )
    layers.initialise(discriminator, "normal", 3.0)
    original = discriminator.convs[0].parametrizations.weight.original
    assert original.std().item() == pytest.approx(3, rel=0.3)
