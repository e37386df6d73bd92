"""The networks by name, and generators to and from a description that fits in JSON."""

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any, get_args

import torch

from twofold.errors import TwofoldError, UsageError
from twofold.networks.discriminators import (
    HalvingDiscriminator,
    ImageDiscriminator,
    MultiDiscriminator,
    PatchDiscriminator,
    PixelDiscriminator,
)
from twofold.networks.layers import (
    Argument,
    Discriminator,
    Generator,
    NormName,
    UpsampleName,
    spectrally_normed,
)
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.resnet_skips import SkipResnetGenerator, resnet
from twofold.networks.unet import UnetGenerator

GENERATORS: dict[str, Callable[[int], Callable[..., Generator]]] = {
    "resnet-9": lambda _: partial(resnet, blocks=9),
    "resnet-6": lambda _: partial(resnet, blocks=6),
    "unet": lambda size: partial(UnetGenerator, depth=unet_depth(size)),
    "unet-256": lambda _: partial(UnetGenerator, depth=8),
    "unet-128": lambda _: partial(UnetGenerator, depth=7),
    "encoder-decoder": lambda size: partial(UnetGenerator, depth=unet_depth(size), skips=False),
    "pytorch-gan": lambda _: partial(resnet, blocks=9),
}
"""Name to the constructor for a training size in pixels."""

DISCRIMINATORS: dict[str, Callable[[int], Callable[..., Discriminator]]] = {
    "patch": lambda layers: partial(PatchDiscriminator, layers=layers),
    "pixel": lambda _: PixelDiscriminator,
    "image": lambda _: ImageDiscriminator,
    "pytorch-gan": lambda _: HalvingDiscriminator,
}
"""Name to the constructor for a number of layers, which only "patch" uses."""

DESCRIBED: dict[str, Callable[..., Generator]] = {"resnet": resnet, "unet": UnetGenerator}
"""The values of "network" in a description."""

LARGEST = 4096
"""The largest channel count in a description: a damaged one must not fill the memory."""

ALLOWED: dict[str, Container[object]] = {
    "norm": get_args(NormName),
    "upsample": get_args(UpsampleName),
    "blocks": range(1, 65),
    "halvings": range(1, 6),
    "depth": range(2, 17),
}
"""The values of an argument in a description; others are switches or numbers of channels."""


def build_generator(
    name: str,
    *,
    size: int,
    skips: bool = False,
    antialias: bool = False,
    blocks: int | None = None,
    halvings: int = 2,
    **others: Any,
) -> Generator:
    """A generator to train on squares of `size` pixels.

    "pytorch-gan" is that implementation's ResNet-9, whose doublings repeat pixels and pad with zeros.

    Args:
        skips: gives a ResNet the skips that its paper does not; the U-Nets have theirs anyway.
        antialias: blurs before a ResNet's halvings.
        blocks, halvings: of a ResNet; None is as many blocks as its name says.
        others: what all generators take: in_channels, out_channels, width, norm, dropout, upsample.

    Raises:
        UsageError: the network cannot take the size, or has no such option.
    """
    if name in ("resnet-9", "resnet-6", "pytorch-gan"):
        others |= {"skips": skips, "antialias": antialias, "halvings": halvings}
    elif antialias:
        raise UsageError(f"generator.antialias is for ResNets, not for {name}; leave it out.")
    elif blocks is not None or halvings != 2:
        raise UsageError(
            f"generator.blocks and generator.halvings are for ResNets, not for {name}; leave them out."
        )
    if blocks is not None:
        others["blocks"] = blocks
    if name == "pytorch-gan":
        others["upsample"] = "resize-zero"
    generator = GENERATORS[name](size)(**others)
    check_size(generator, size, size)
    return generator


def build_discriminator(
    name: str,
    *,
    layers: int,
    antialias: bool = False,
    spectral: bool = False,
    scales: int = 1,
    count: int = 1,
    extra_layers: Sequence[int] = (),
    **others: Any,
) -> Discriminator:
    """A discriminator, or several as one.

    Args:
        layers: the depth of "patch"; it changes no other.
        antialias: blurs before the halvings of "patch" and "image".
        spectral: divides every weight by its largest singular value.
        scales, count: how many image scales are judged, and by how many discriminators each.
        extra_layers: the depths of further "patch" discriminators, as many of each.
        others: what all discriminators take: in_channels, width, norm.

    Raises:
        UsageError: it has no such option.
    """
    if antialias and name not in ("patch", "image"):
        raise UsageError(f"discriminator.antialias is for patch and image, not for {name}; leave it out.")
    if extra_layers and name != "patch":
        raise UsageError(f"discriminator.extra_layers is for patch, not for {name}; leave it out.")
    if antialias:
        others["antialias"] = True

    def one(depth: int) -> Discriminator:
        discriminator = DISCRIMINATORS[name](depth)(**others)
        return spectrally_normed(discriminator) if spectral else discriminator

    depths = [depth for depth in (layers, *extra_layers) for _ in range(count)]
    if scales * len(depths) == 1:
        return one(layers)
    return MultiDiscriminator([[one(depth) for depth in depths] for _ in range(scales)])


def automatic_generator(size: int) -> str:
    """The generator of CycleGAN for a size (arXiv 1703.10593, appendix 7.2): nine blocks from 256 px, six below."""
    return "resnet-9" if size >= 256 else "resnet-6"


def unet_depth(size: int) -> int:
    """Halvings of a U-Net for a training size: as many as divide it, 8 at most; UsageError under 5."""
    depth = min(8, (size & -size).bit_length() - 1)
    if depth < 5:
        near = " or ".join(str(each) for each in (size // 32 * 32, size // 32 * 32 + 32) if each)
        raise UsageError(f"A U-Net needs a size that is a multiple of 32, not {size}; use {near}.")
    return depth


def check_size(network: Generator | Discriminator, height: int, width: int) -> None:
    """Raise UsageError, with the rule, if a network cannot take images of this height and width."""
    least, multiple = network.minimum, network.multiple_of
    if min(height, width) >= least and height % multiple == 0 and width % multiple == 0:
        return
    kind = "generator" if isinstance(network, Generator) else "discriminator"
    rule = f"multiples of {multiple}, from {least} up" if multiple > 1 else f"{least} pixels at least"
    raise UsageError(f"The {kind} needs a height and width that are {rule}, not {height}×{width}.")


def describe(generator: Generator) -> dict[str, Argument]:
    """The name and arguments of a generator, fit for JSON, from which `from_description` rebuilds it without weights."""
    names = {ResnetGenerator: "resnet", SkipResnetGenerator: "resnet", UnetGenerator: "unet"}
    kind = type(generator)
    if kind not in names:
        raise TypeError(f"{kind.__name__} has no description: it is not one of twofold's generators")
    return {"network": names[kind], **generator.arguments}


def from_description(description: Mapping[str, object]) -> Generator:
    """Build the generator, with fresh weights, of a description that may come from any file.

    Missing arguments have their defaults. A description can ask for more than memory holds: call this under
    `torch.device("meta")` and assign the file's tensors.

    Raises:
        TwofoldError: it cannot be built.
    """
    arguments = dict(description)
    network = arguments.pop("network", None)
    if not isinstance(network, str) or network not in DESCRIBED:
        raise TwofoldError(
            f"Unknown network {network!r:.40}: the file may need a newer twofold, or is damaged."
        )
    with torch.device("meta"):
        defaults = DESCRIBED[network]().arguments
    for name, value in arguments.items():
        default = defaults.get(name)
        channels_or_switch = (False, True) if isinstance(default, bool) else range(1, LARGEST + 1)
        if type(value) is not type(default) or value not in ALLOWED.get(name, channels_or_switch):
            raise TwofoldError(
                f"This twofold knows no {network} network with {name}={value!r:.40}: the file may need a newer twofold."
            )
    return DESCRIBED[network](**arguments)
