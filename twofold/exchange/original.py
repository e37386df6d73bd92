"""Checkpoints of junyanz/pytorch-CycleGAN-and-pix2pix and of CUT, `*_net_G_A.pth` and its like, in and out.

The originals save a state dict and nothing else, so the architecture is read off its keys and shapes. Norms
are too: only BatchNorm has entries of its own, and only with instance norm do inner convolutions have a bias.
What leaves no trace is the dropout of a U-Net, and whether a PatchGAN's logits are averaged to one.

Names: the original's G_A translates A to B and G_B back, as `gen_ab` and `gen_ba`; its D_A judges images of
domain B, so it is `disc_b`, and its D_B is `disc_a`.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from twofold.errors import TwofoldError
from twofold.networks.discriminators import PatchDiscriminator, PixelDiscriminator
from twofold.networks.layers import Discriminator, Generator, NormName
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator

Network = TypeVar("Network", bound=nn.Module)

RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def read_pth(path: Path) -> dict[str, Tensor]:
    """The state dict in a `.pth` file, tensors on the CPU; no code in the file is ever run.

    Errors: TwofoldError for a file that cannot be read, is damaged, holds Python objects besides tensors, or
    holds something else than tensors by name.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TwofoldError(f"Cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # a damaged file can fail anywhere inside the decoder, with any exception
        raise TwofoldError(why_unreadable(path, str(error))) from error
    if not is_state_dict(content):
        raise TwofoldError(f"{path} is no state dict: save `network.state_dict()` alone and import that.")
    return dict(content)


def why_unreadable(path: Path, reason: str) -> str:
    if found := re.search(r"GLOBAL ([\w.]+)", reason):
        return (
            f"{path} holds Python objects ({found[1]:.60}), which could run code, so it was not read: "
            "have its owner save the state dict alone."
        )
    return f"{path} is damaged or no PyTorch checkpoint: download or copy it again."


def is_state_dict(content: object) -> TypeGuard[dict[str, Tensor]]:
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and is_plain(tensor) for name, tensor in content.items())
    )


def is_plain(tensor: object) -> bool:
    """Whether it is a tensor of numbers, each stored: an expanded one could fill the memory when copied."""
    return (
        isinstance(tensor, Tensor)
        and tensor.layout is torch.strided
        and (tensor.is_floating_point() or tensor.dtype is torch.int64)
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def generator_from_original(state: Mapping[str, Tensor], *, dropout: bool = False) -> Generator:
    """The ResNet or U-Net generator of an original's state dict, float32 on the CPU, in train mode.

    Args:
        dropout: whether a U-Net drops out, which its keys do not tell (pix2pix does unless trained with
            --no_dropout). A ResNet's keys do, and it is not asked.

    Errors: TwofoldError where the keys or shapes are another network's.
    """
    state = cleaned(state)
    if "model.model.0.weight" in state:
        return filled(unet_like(state, dropout), state)
    if "model.1.weight" in state and any(name.endswith("conv_block.1.weight") for name in state):
        return filled(resnet_like(state), state)
    if "model.0.weight" in state or "net.0.weight" in state:
        raise TwofoldError(
            "This is a discriminator (net_D): import the generator, a file named *_net_G*.pth."
        )
    raise TwofoldError("The keys are not those of a CycleGAN or pix2pix generator.")


def discriminator_from_original(state: Mapping[str, Tensor]) -> Discriminator:
    """The PatchGAN or PixelGAN of an original's state dict, float32 on the CPU, in train mode.

    Errors: TwofoldError where the keys or shapes are another network's.
    """
    state = cleaned(state)
    if "net.0.weight" in state:
        return filled(pixel_like(state), state)
    if "model.0.weight" in state:
        return filled(patch_like(state), state)
    if "model.model.0.weight" in state or "model.1.weight" in state:
        raise TwofoldError(
            "This is a generator (net_G): import the discriminator, a file named *_net_D*.pth."
        )
    raise TwofoldError("The keys are not those of a CycleGAN or pix2pix discriminator.")


def to_original(network: nn.Module) -> dict[str, Tensor]:
    """The state dict under the original's keys, in its order; it can be saved with `torch.save`.

    Errors: TwofoldError for a network that the original has no counterpart of.
    """
    state = network.state_dict()
    theirs = {theirs: state[ours].detach().cpu() for theirs, ours in keys(network).items()}
    return theirs | interpolating(network)


def interpolating(network: nn.Module) -> dict[str, Tensor]:
    """The constant kernels of CUT's blurred doublings, which here are bilinear and have no entry."""
    if not isinstance(network, ResnetGenerator) or network.arguments["upsample"] != "blur":
        return {}
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    names, kernel = resnet_names(network), torch.outer(line, line)
    found = {}
    for i in range(2):
        place = int(names[f"up.{i}.conv"].removeprefix("model.")) - 1
        channels = int(network.arguments["width"]) * 4 // 2**i
        found[f"model.{place}.filt"] = kernel.expand(channels, 1, -1, -1).contiguous()
    return found


def cleaned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without DataParallel's prefix, and without what InstanceNorm still kept before PyTorch 0.4."""
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}

    def kept(name: str) -> bool:
        layer, _, entry = name.rpartition(".")
        return entry not in RUNNING or f"{layer}.weight" in state

    return {name: tensor for name, tensor in state.items() if kept(name)}


def norm_of(state: Mapping[str, Tensor], conv: str, norm: str) -> NormName:
    """The norm of a network, from one inner convolution and the layer after it."""
    if f"{norm}.weight" in state:
        return "batch"
    return "instance" if f"{conv}.bias" in state else "none"


def resnet_like(state: Mapping[str, Tensor]) -> ResnetGenerator:
    numbers = [
        int(found[1]) for name in state if (found := re.match(r"model\.(\d+)\.conv_block\.1\.weight", name))
    ]
    first, last = min(numbers), max(numbers)
    width, in_channels = channels(state, "model.1.weight")
    blur = f"model.{last + 1}.filt" in state
    out_channels, _ = channels(state, f"model.{last + 8 + 2 * blur}.weight")
    second = state.get(f"model.{first}.conv_block.6.weight")  # without dropout, BatchNorm is here or nothing
    with torch.device("meta"):
        return ResnetGenerator(
            in_channels,
            out_channels,
            width,
            blocks=last - first + 1,
            norm=norm_of(state, "model.1", "model.2"),
            dropout=second is not None and second.ndim == 4,
            upsample="blur" if blur else "transposed",
            antialias="model.7.filt" in state,
        )


def unet_like(state: Mapping[str, Tensor], dropout: bool) -> UnetGenerator:
    depth = 1
    while f"{unet_level(depth)}.1.weight" in state:
        depth += 1
    if depth < 5:
        raise TwofoldError(f"This looks like a U-Net generator, but of {depth} levels where 5 is the least.")
    width, in_channels = channels(state, "model.model.0.weight")
    _, out_channels = channels(state, "model.model.3.weight")
    norm = norm_of(state, "model.model.0", f"{unet_level(1)}.2")
    with torch.device("meta"):
        return UnetGenerator(in_channels, out_channels, width, depth, norm=norm, dropout=dropout)


def patch_like(state: Mapping[str, Tensor]) -> PatchDiscriminator:
    layers = sum(tensor.ndim == 4 for name, tensor in state.items() if name.endswith(".weight")) - 2
    if layers < 1:
        raise TwofoldError("This looks like a PatchGAN discriminator, but has under three convolutions.")
    width, in_channels = channels(state, "model.0.weight")
    antialias = "model.2.filt" in state
    norm = norm_of(state, f"model.{2 + antialias}", f"model.{3 + antialias}")
    with torch.device("meta"):
        return PatchDiscriminator(in_channels, width, layers, norm, antialias)


def pixel_like(state: Mapping[str, Tensor]) -> PixelDiscriminator:
    width, in_channels = channels(state, "net.0.weight")
    norm = norm_of(state, "net.2", "net.3")
    with torch.device("meta"):
        return PixelDiscriminator(in_channels, width, norm)


def channels(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """The first two sizes of a convolution's weight."""
    weight = state.get(name)
    if weight is None or weight.ndim != 4 or weight.numel() == 0:
        raise TwofoldError(f"The file is incomplete: {name} is missing or is no convolution's.")
    return weight.shape[0], weight.shape[1]


def filled(network: Network, state: Mapping[str, Tensor]) -> Network:
    """`network`, made without memory, with the weights of the original's state dict; every key must fit."""
    kind = f"This looks like a {type(network).__name__}"
    ours, shapes = keys(network), network.state_dict()
    if missing := ours.keys() - state.keys():
        raise TwofoldError(f"{kind}, but lacks {min(missing)}: the file is incomplete or of another network.")
    if unknown := state.keys() - ours.keys() - interpolating(network).keys():
        raise TwofoldError(f"{kind}, but has {min(unknown)!r:.80}, which that network has not.")
    for theirs, key in ours.items():
        found, expected = tuple(state[theirs].shape), tuple(shapes[key].shape)
        if found != expected:
            raise TwofoldError(f"{kind}, but its {theirs} has the shape {found}, not {expected}.")
    network.to_empty(device="cpu")
    network.load_state_dict({key: state[theirs] for theirs, key in ours.items()})
    return network


def keys(network: nn.Module) -> dict[str, str]:
    """The original's keys in its order, each with ours."""
    names, rename = layer_names(network), {"kernel": "filt"}
    ours = [key.rpartition(".") for key in network.state_dict()]
    return {f"{names[layer]}.{rename.get(entry, entry)}": f"{layer}.{entry}" for layer, _, entry in ours}


def layer_names(network: nn.Module) -> dict[str, str]:
    """Our name of each layer with weights to the original's; of some without, too."""
    match network:
        case ResnetGenerator(arguments={"upsample": "transposed" | "blur", "skips": False, "halvings": 2}):
            return resnet_names(network)
        case UnetGenerator(arguments={"upsample": "transposed", "skips": True}):
            return unet_names(network)
        case PatchDiscriminator():  # ImageDiscriminator too: the original leaves the averaging to the loss
            return {f"convs.{i}": f"model.{i}" for i in range(len(network.convs))}
        case PixelDiscriminator():
            return {f"convs.{i}": f"net.{i}" for i in range(len(network.convs))}
        case Generator():
            raise TwofoldError(
                "The original has no generator that repeats pixels to upsample, nor a ResNet with skips, nor a U-Net without."
            )
        case _:
            raise TypeError(f"the original has no {type(network).__name__}")


def resnet_names(network: ResnetGenerator) -> dict[str, str]:
    antialias, blur = network.arguments["antialias"], network.arguments["upsample"] == "blur"
    convs, place = {"enter": 1}, 4
    names: dict[str, str] = {}
    for i in range(2):
        convs[f"down.{i}"] = place
        names |= {f"down.{i}.blur": f"model.{place + 3}"} if antialias else {}
        place += 4 if antialias else 3
    second = 6 if network.arguments["dropout"] else 5
    for i in range(len(network.blocks)):
        block = f"model.{place}.conv_block"
        names |= {f"blocks.{i}.conv1": f"{block}.1", f"blocks.{i}.norm1": f"{block}.2"}
        names |= {f"blocks.{i}.conv2": f"{block}.{second}", f"blocks.{i}.norm2": f"{block}.{second + 1}"}
        place += 1
    for i in range(2):
        convs[f"up.{i}"] = place + blur
        place += 3 + blur
    convs["leave"] = place + 1
    names |= {f"{stage}.conv": f"model.{place}" for stage, place in convs.items()}
    return names | {f"{stage}.norm": f"model.{place + 1}" for stage, place in convs.items()}


def unet_names(network: UnetGenerator) -> dict[str, str]:
    last = len(network.down) - 1
    names = {"down.0.conv": "model.model.0", f"up.{last}.conv": "model.model.3"}
    for i in range(1, last):
        level = unet_level(i)
        names |= {f"down.{i}.conv": f"{level}.1", f"down.{i}.norm": f"{level}.2"}
        names |= {f"up.{last - i}.conv": f"{level}.5", f"up.{last - i}.norm": f"{level}.6"}
    level = unet_level(last)
    return names | {f"down.{last}.conv": f"{level}.1", "up.0.conv": f"{level}.3", "up.0.norm": f"{level}.4"}


def unet_level(depth: int) -> str:
    """Where the original keeps the level that lies `depth` inside the outermost."""
    return "model.model" + ".1.model" + ".3.model" * (depth - 1)
