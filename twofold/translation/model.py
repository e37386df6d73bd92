"""The model file: a generator's weights and a header that says what they are.

A `.safetensors` file whose header holds one metadata key, `twofold`: JSON with sorted keys that says which network
the weights belong to and how to feed it. It holds no time, host or path, so equal trainings write equal bytes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from twofold.errors import TwofoldError
from twofold.networks.layers import Generator
from twofold.networks.registry import describe, from_description
from twofold.translation.header import Header, read_header, spelled


def load(path: Path) -> tuple[Generator, Header]:
    """The generator in a model file, in eval mode on the CPU, and its header.

    Raises:
        UsageError: no such file.
        TwofoldError: damaged, not a twofold model, or of a newer format.
    """
    header = read_header(path)
    try:
        with torch.device("meta"):  # a hostile header may name a network larger than memory
            generator = from_description(header.network)
    except (TwofoldError, LookupError) as error:
        raise TwofoldError(f"{path}: {error}") from error
    with safe_open(path, "pt") as content:
        weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    if kinds(weights) != kinds(generator.state_dict()):
        raise TwofoldError(f"{path} lacks weights of the network that its header names; copy it again")
    generator.load_state_dict(weights, assign=True)
    return generator.requires_grad_(False).eval(), header


def kinds(weights: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (weight.shape, weight.dtype) for name, weight in weights.items()}


ASIDE = ".part-"


def save(generator: Generator, header: Header, path: Path) -> None:
    """Write a model file, aside, and rename it: it is whole or absent. OSError where the disk refuses."""
    weights = {name: t.detach().cpu().contiguous() for name, t in generator.state_dict().items()}
    aside = path.with_name(f".{path.name}{ASIDE}{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with aside.open("wb") as file:  # safetensors' own writer hides what the disk said
            file.write(to_bytes(weights, {"twofold": spelled(header)}))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a `save` that was killed has left; for folders that nobody else writes to."""
    for left in folder.glob(f".*{ASIDE}*"):
        left.unlink(missing_ok=True)


def header_of(
    generator: Generator, direction: str, size: int | None, origin: dict[str, Any], noise: bool = False
) -> Header:
    """The header of a generator of ours."""
    return Header(describe(generator), direction, size, origin, noise)
