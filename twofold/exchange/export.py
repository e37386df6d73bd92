"""Write a generator as a checkpoint of pytorch-CycleGAN-and-pix2pix or of CUT, for its test.py."""

import io
from collections.abc import Iterator
from pathlib import Path

import torch

from twofold.exchange.original import to_original
from twofold.files import write_atomically
from twofold.networks.layers import Generator
from twofold.translation.header import Header, contract_in_words

NET_G = {
    ("resnet", 9): "resnet_9blocks",
    ("resnet", 6): "resnet_6blocks",
    ("unet", 8): "unet_256",
    ("unet", 7): "unet_128",
}
"""The values of the original's --netG, by network and blocks or depth."""


def save_original(generator: Generator, path: Path) -> None:
    """Write the state dict under the original's keys, whole or not at all; equal weights give equal bytes.

    Raises:
        TwofoldError: the original has no such network.
        OSError: the disk refused.
    """
    content = io.BytesIO()
    torch.save(to_original(generator), content)
    write_atomically(path, content.getvalue(), durable=True)


def how_to_use(header: Header) -> Iterator[str]:
    """Lines that say how the original's test.py loads the exported file, and what it cannot do."""
    network = header.network
    size = int(network.get("blocks", 9) if network["network"] == "resnet" else network.get("depth", 8))
    name = NET_G.get((str(network["network"]), size))
    is_cut = network.get("upsample") == "blur" or bool(network.get("antialias"))
    if name is None:
        argument = "n_blocks" if network["network"] == "resnet" else "num_downs"
        yield f"The original's --netG has no such network: call its class with {argument}={size} in models/networks.py."
    where = "CUT's" if is_cut else "the original's"
    command = " ".join(["python test.py", *options(header, name, is_cut)])
    yield f"To use it, copy it to {where} checkpoints/NAME/latest_net_G.pth and run: {command}"
    for contract, end in ((header.source_contract, "takes"), (header.target_contract, "gives")):
        if contract.dtype != "uint8" or contract.labels or contract.channels not in (1, 3):
            yield f"This model {end} {contract_in_words(contract)}; the original reads and writes 8-bit images alone."


def options(header: Header, name: str | None, is_cut: bool) -> Iterator[str]:
    """The options of the original's test.py for this network."""
    network = header.network
    yield f"--dataroot IMAGES --name NAME --model {'cut' if is_cut else 'test'}"
    if name:
        yield f"--netG {name}"
    yield f"{'--normG' if is_cut else '--norm'} {network.get('norm', 'instance')}"
    if is_cut:
        if not network.get("antialias"):
            yield "--no_antialias"
        if network.get("upsample") != "blur":
            yield "--no_antialias_up"
        if network.get("dropout"):
            yield "--no_dropout False"
    elif not network.get("dropout"):
        yield "--no_dropout"
    for option, argument, default in (
        ("ngf", "width", 64),
        ("input_nc", "in_channels", 3),
        ("output_nc", "out_channels", 3),
    ):
        if network.get(argument, default) != default:
            yield f"--{option} {network[argument]}"
    yield scale_option(header)


def scale_option(header: Header) -> str:
    """The options that scale images as the model was trained, as nearly as the original can."""
    scale = header.geometry
    if scale is None:
        return f"--load_size {header.size} --crop_size {header.size}" if header.size else "--preprocess none"
    match scale.resize:
        case "resize-and-crop":
            return f"--load_size {scale.load_size} --crop_size {scale.load_size}"
        case "scale-width" | "scale-width-and-crop":
            return f"--preprocess scale_width --load_size {scale.load_size} --crop_size {scale.size}"
        case "shortest":
            return f"--preprocess none (first scale the shorter side of your images to {scale.load_size} px)"
        case "crop" | "none":
            return "--preprocess none"
