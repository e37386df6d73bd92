"""State dicts of junyanz/pytorch-CycleGAN-and-pix2pix, of CUT and of their kin, to networks and back.

A state dict does not name its network, so the architecture is inferred from keys and shapes. Its G_A is
`gen_ab` and its G_B is `gen_ba`. Its D_A judges images of domain B, so it is `disc_b`; its D_B is `disc_a`.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from twofold.errors import TwofoldError
from twofold.exchange.foreign import canonical, without_old_statistics
from twofold.exchange.mapping import is_generator, what_there_is
from twofold.networks.discriminators import PatchDiscriminator, PixelDiscriminator
from twofold.networks.layers import Discriminator, Generator, NormName, UpsampleName
from twofold.networks.registry import ALLOWED, LARGEST
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator

Network = TypeVar("Network", bound=nn.Module)

# ---- the original's state dict to a network


def generator_of(state: Mapping[str, Tensor], dropout: bool = False) -> Generator:
    """Build the generator of a foreign state dict, float32 on the CPU, in train mode.

    These are the original's ResNets and U-Nets, CUT's ResNets, the global generator of pix2pixHD and the ResNet of
    PyTorch-GAN, with spectral norm, and with InstanceNorm that has scale and bias.

    Args:
        dropout: whether a U-Net has dropout, which its keys do not tell (pix2pix has, unless trained with
            --no_dropout). Ignored for a ResNet, whose keys do.

    Raises:
        TwofoldError: the keys or shapes are those of another network; the message names it where it is known.
    """
    weights = canonical(state)
    if weights is None:
        raise TwofoldError(what_there_is({"": dict(state)}))
    check_memory(weights)
    network = unet_for(weights, dropout) if "model.model.0.weight" in weights else resnet_for(weights)
    return load_weights(network, with_fitting_biases(network, weights))


def discriminator_from_original(state: Mapping[str, Tensor]) -> Discriminator:
    """Build the PatchGAN or PixelGAN discriminator of an original state dict, float32 on the CPU, in train mode."""
    if is_generator(state):
        raise TwofoldError("the file holds a generator (net_G); import the discriminator, named *_net_D*.pth")
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    state = without_old_statistics({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    if "net.0.weight" in state:
        return load_weights(pixel_for(state), state)
    if "model.0.weight" in state:
        return load_weights(patch_for(state), state)
    raise TwofoldError("the keys are not those of a CycleGAN discriminator; import a file named *_net_D*.pth")


def check_memory(state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are the same numbers many times: a network, which copies them, would be larger than the file."""
    storages = (tensor.untyped_storage() for tensor in state.values())
    held = {each.data_ptr(): each.nbytes() for each in storages}
    if sum(tensor.nbytes for tensor in state.values()) > sum(held.values()) + 2**20:
        raise TwofoldError("several weights are the same tensor, unlike in a generator; copy the file again")


def resnet_for(state: Mapping[str, Tensor]) -> ResnetGenerator:
    first_convs = (re.match(r"model\.(\d{1,6})\.conv_block\.1\.weight", name) for name in state)
    first, *others = sorted(int(found[1]) for found in first_convs if found)
    last = (others or [first])[-1]
    width, in_channels = channels(state, "model.1.weight")
    antialias, upsample = "model.7.filt" in state, resnet_upsample(state, last + 1)
    halvings = (first - 4) // (3 + antialias)
    check_allowed(blocks=last - first + 1, halvings=halvings)
    leave = last + halvings * (3 + (upsample != "transposed")) + 2
    out_channels, _ = channels(state, f"model.{leave}.weight")
    second = state.get(f"model.{first}.conv_block.6.weight")  # a convolution only if dropout stands before it
    with torch.device("meta"):
        return ResnetGenerator(
            in_channels,
            out_channels,
            width,
            blocks=last - first + 1,
            norm=infer_norm(state, "model.1", "model.2"),
            dropout=second is not None and second.ndim == 4,
            upsample=upsample,
            antialias=antialias,
            halvings=halvings,
        )


def resnet_upsample(state: Mapping[str, Tensor], layer: int) -> UpsampleName:
    """How the doubling at this layer is made: CUT's has a kernel, PyTorch-GAN's begins without weights."""
    if f"model.{layer}.filt" in state:
        return "blur"
    return "transposed" if f"model.{layer}.weight" in state else "resize-zero"


def unet_for(state: Mapping[str, Tensor], dropout: bool) -> UnetGenerator:
    depth = 1
    while f"{unet_level(depth)}.1.weight" in state:
        depth += 1
    width, in_channels = channels(state, "model.model.0.weight")
    _, out_channels = channels(state, "model.model.3.weight")
    check_allowed(depth=depth)
    inner = f"{unet_level(1)}.2" if depth > 2 else f"{unet_level(1)}.4"
    norm = infer_norm(state, "model.model.0", inner)
    with torch.device("meta"):
        return UnetGenerator(in_channels, out_channels, width, depth, norm=norm, dropout=dropout)


def check_allowed(**counts: int) -> None:
    """Refuse what no model file may hold, before a network of that size is built."""
    for name, count in counts.items():
        if count not in ALLOWED[name]:
            raise TwofoldError(
                f"the file looks like a generator with {name}: {count}, which twofold does not have; or it is incomplete"
            )


def with_fitting_biases(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the biases that a batch norm subtracts again, and with biases of 0 before an affine instance norm.

    pix2pixHD has the former; a convolution without a bias the latter.
    """
    names = original_keys(network)
    match network.arguments:
        case {"norm": "batch"}:
            unused = {f"{name.removesuffix('.weight')}.bias" for name in names} - names.keys()
            return {name: tensor for name, tensor in state.items() if name not in unused}
        case {"norm": "instance-affine"}:
            convs = {name: f"{name.removesuffix('.bias')}.weight" for name in names.keys() - state.keys()}
            expected = network.state_dict()
            zeros = {
                name: torch.zeros(expected[names[name]].shape)
                for name, weight in convs.items()
                if name.endswith(".bias") and weight in state and state[weight].ndim == 4
            }
            return state | zeros
    return state


def patch_for(state: Mapping[str, Tensor]) -> PatchDiscriminator:
    layers = sum(tensor.ndim == 4 for name, tensor in state.items() if name.endswith(".weight")) - 2
    if layers < 1:
        raise TwofoldError(f"it looks like a PatchGAN of {layers + 2} convolutions; twofold reads 3 or more")
    width, in_channels = channels(state, "model.0.weight")
    antialias = "model.2.filt" in state
    norm = infer_norm(state, f"model.{2 + antialias}", f"model.{3 + antialias}")
    with torch.device("meta"):
        return PatchDiscriminator(in_channels, width, layers, norm, antialias)


def pixel_for(state: Mapping[str, Tensor]) -> PixelDiscriminator:
    width, in_channels = channels(state, "net.0.weight")
    with torch.device("meta"):
        return PixelDiscriminator(in_channels, width, infer_norm(state, "net.2", "net.3"))


def infer_norm(state: Mapping[str, Tensor], conv: str, norm: str) -> NormName:
    """BatchNorm has statistics; of the others only InstanceNorm has weights, or a bias in the convolution before it."""
    if f"{norm}.weight" in state:
        return "batch" if f"{norm}.running_mean" in state else "instance-affine"
    return "instance" if f"{conv}.bias" in state else "none"


def channels(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """The first two sizes of a convolution's weight."""
    weight = state.get(name)
    if weight is None or weight.ndim != 4 or weight.numel() == 0:
        raise TwofoldError(f"the file is incomplete: {name} is missing or not a convolution's; copy it again")
    if max(weight.shape) > LARGEST:
        raise TwofoldError(f"a convolution has at most {LARGEST} channels; {name} has {max(weight.shape)}")
    return weight.shape[0], weight.shape[1]


def load_weights(network: Network, state: Mapping[str, Tensor]) -> Network:
    """Give `network`, which is on the meta device, memory and the original's weights; every key must fit."""
    kind = f"the file looks like a {type(network).__name__}"
    names, expected = original_keys(network), network.state_dict()
    if missing := names.keys() - state.keys():
        raise TwofoldError(f"{kind}, but lacks {min(missing)}; it is incomplete or holds another network")
    if unknown := state.keys() - names.keys() - upsampling_kernels(network).keys():
        raise TwofoldError(f"{kind}, but has {min(unknown)!r:.80}; twofold does not have that network")
    for name, ours in names.items():
        shape, fits = tuple(state[name].shape), tuple(expected[ours].shape)
        if shape != fits:
            raise TwofoldError(f"{kind}, but {name} has the shape {shape} instead of {fits}")
        if not state[name].isfinite().all():
            raise TwofoldError(f"{name} is not finite: the training diverged; import an earlier checkpoint")
    network.to_empty(device="cpu")
    network.load_state_dict({ours: state[name] for name, ours in names.items()})
    return network


# ---- a network to the original's state dict


def to_original(network: nn.Module) -> dict[str, Tensor]:
    """The state dict under the original's keys and in its order, on the CPU, for `torch.save`.

    Raises:
        TwofoldError: the original has no such network.
    """
    check_exportable(network)
    state = network.state_dict()
    weights = {name: state[ours].detach().cpu() for name, ours in original_keys(network).items()}
    return weights | upsampling_kernels(network)


def check_exportable(network: nn.Module) -> None:
    """Raise TwofoldError, which names the reason, if the original has no such network."""
    if not isinstance(network, ResnetGenerator | UnetGenerator):
        return  # `original_layers` knows the discriminators
    arguments, resnet = network.arguments, isinstance(network, ResnetGenerator)
    upsamples = ("transposed", "blur") if resnet else ("transposed",)
    reasons = {
        "with scale and bias in InstanceNorm": arguments["norm"] == "instance-affine",
        f"with upsample {arguments['upsample']}": arguments["upsample"] not in upsamples,
        "with skips" if resnet else "without skips": arguments["skips"] is resnet,
        f"with {arguments.get('halvings', 2)} halvings": arguments.get("halvings", 2) != 2,
        f"of {arguments.get('depth', 8)} levels": int(arguments.get("depth", 8)) < 5,
    }
    for reason, applies in reasons.items():
        if applies:
            kind = "ResNet" if resnet else "U-Net"
            raise TwofoldError(f"the original has no {kind} {reason}; export it as .onnx or .pt2")


def upsampling_kernels(network: nn.Module) -> dict[str, Tensor]:
    """The constant kernels of CUT's upsampling; ours is bilinear interpolation, which has no kernel."""
    if not isinstance(network, ResnetGenerator) or network.arguments["upsample"] != "blur":
        return {}
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    layers, kernel = resnet_layers(network), torch.outer(line, line)
    return {
        f"{layers[f'up.{i}.upsample']}.filt": kernel.repeat(2 * channels, 1, 1, 1)
        for i, channels in enumerate(reversed(network.widths))
    }


def original_keys(network: nn.Module) -> dict[str, str]:
    """The original's keys in its order, each with the key of the same tensor here."""
    layers, rename = original_layers(network), {"kernel": "filt"}
    ours = [key.rpartition(".") for key in network.state_dict()]
    return {f"{layers[layer]}.{rename.get(entry, entry)}": f"{layer}.{entry}" for layer, _, entry in ours}


def original_layers(network: nn.Module) -> dict[str, str]:
    """Our layers by name, each with the name that the original gives or would give; some have no weights."""
    match network:
        case ResnetGenerator():
            return resnet_layers(network)
        case UnetGenerator():
            return unet_layers(network)
        case PatchDiscriminator():  # ImageDiscriminator too: the original averages in the loss
            return {f"convs.{i}": f"model.{i}" for i in range(len(network.convs))}
        case PixelDiscriminator():
            return {f"convs.{i}": f"net.{i}" for i in range(len(network.convs))}
        case _:
            raise TwofoldError(f"the original has no {type(network).__name__}")


def resnet_layers(network: ResnetGenerator) -> dict[str, str]:
    antialias, upsamples = bool(network.arguments["antialias"]), network.arguments["upsample"] != "transposed"
    names = ["pad", "enter.conv", "enter.norm", "relu"]
    for i in range(len(network.down)):
        names += [f"down.{i}.conv", f"down.{i}.norm", "relu", *[f"down.{i}.blur"] * antialias]
    names += [f"blocks.{i}" for i in range(len(network.blocks))]
    for i in range(len(network.up)):
        names += [*[f"up.{i}.upsample"] * upsamples, f"up.{i}.conv", f"up.{i}.norm", "relu"]
    layers = {name: f"model.{place}" for place, name in enumerate([*names, "pad", "leave.conv"])}
    second = 6 if network.arguments["dropout"] else 5
    inner = {"conv1": 1, "norm1": 2, "conv2": second, "norm2": second + 1}
    for i in range(len(network.blocks)):
        block = layers.pop(f"blocks.{i}")
        layers |= {f"blocks.{i}.{name}": f"{block}.conv_block.{place}" for name, place in inner.items()}
    return layers


def unet_layers(network: UnetGenerator) -> dict[str, str]:
    last = len(network.down) - 1
    layers = {"down.0.conv": "model.model.0", f"up.{last}.conv": "model.model.3"}
    for i in range(1, last):
        level = unet_level(i)
        layers |= {f"down.{i}.conv": f"{level}.1", f"down.{i}.norm": f"{level}.2"}
        layers |= {f"up.{last - i}.conv": f"{level}.5", f"up.{last - i}.norm": f"{level}.6"}
    level = unet_level(last)
    return layers | {f"down.{last}.conv": f"{level}.1", "up.0.conv": f"{level}.3", "up.0.norm": f"{level}.4"}


def unet_level(depth: int) -> str:
    """The original's name of the level that is `depth` levels inside the outermost."""
    return "model.model" + ".1.model" + ".3.model" * (depth - 1)
