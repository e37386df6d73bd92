"""Save and load a model file: a generator's weights in `.safetensors`, its header in the metadata key `twofold`."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from twofold.errors import TwofoldError, UsageError
from twofold.files import write_atomically
from twofold.networks.layers import Generator
from twofold.networks.registry import from_description
from twofold.runs import Run
from twofold.translation.header import Header, read_header


def save(generator: Generator, header: Header, path: Path) -> None:
    """Write a model file, whole or not at all."""
    write_atomically(path, content(generator, header), durable=True)


def content(generator: Generator, header: Header) -> bytes:
    """The bytes of a model file; equal models give equal bytes."""
    weights = {name: t.detach().cpu().contiguous() for name, t in generator.state_dict().items()}
    return to_bytes(weights, {"twofold": header.to_json()})


def load(path: Path, direction: str | None = None, best: bool = False) -> tuple[Generator, Header]:
    """Load the generator of a model file or of a run, in eval mode on the CPU, and its header.

    Arguments and errors are those of `Translator.load`.
    """
    if path.is_dir():
        run, way = Run(path), direction or "ab"
        path = run.best_snapshot(way) if best else run.newest_snapshot(way)
    header = read_header(path)
    if direction not in (None, header.direction):
        raise UsageError(f"{path} translates {header.direction}, not {direction}; load the other model")
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
