"""Save and load a model file: a generator's weights in `.safetensors`, its header in the metadata key `twofold`."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from twofold.errors import TwofoldError
from twofold.files import write_atomically
from twofold.networks.layers import Generator
from twofold.networks.registry import from_description
from twofold.translation.header import Header, read_header


def save(generator: Generator, header: Header, path: Path) -> None:
    """Write a model file, whole or not at all.

    Raises:
        OSError: the disk refused.
    """
    write_atomically(path, content(generator, header), durable=True)


def content(generator: Generator, header: Header) -> bytes:
    """The bytes of a model file; equal models give equal bytes."""
    weights = {name: t.detach().cpu().contiguous() for name, t in generator.state_dict().items()}
    return to_bytes(weights, {"twofold": header.to_json()})


def load(path: Path) -> tuple[Generator, Header]:
    """Load the generator of a model file, in eval mode on the CPU, and its header.

    Raises:
        UsageError: the file does not exist, or is a PyTorch checkpoint.
        TwofoldError: the file is damaged, not a twofold model, or of a newer format.
    """
    header = read_header(path)
    try:
        with torch.device("meta"):  # a hostile header may describe a network larger than memory
            generator = from_description(header.network)
    except (TwofoldError, LookupError) as error:
        raise TwofoldError(f"{path}: {error}") from error
    weights = load_file(path)
    if shapes(weights) != shapes(generator.state_dict()):
        raise TwofoldError(f"the weights in {path} do not fit the network in its header; copy the file again")
    generator.load_state_dict(weights, assign=True)
    return generator.requires_grad_(False).eval(), header


def shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (weight.shape, weight.dtype) for name, weight in weights.items()}
