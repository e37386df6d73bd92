"""The model file: a generator's weights and a header that says what they are.

A `.safetensors` file whose header holds one metadata key, `twofold`: JSON with sorted keys that says which network
the weights belong to and how to feed it. It holds no time, host or path, so equal trainings write equal bytes.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from twofold.errors import TwofoldError, UsageError
from twofold.networks.layers import Generator
from twofold.networks.registry import describe, from_description
from twofold.runs import DIRECTIONS

FORMAT = 1
"""Version of the header; a newer one is refused."""

MAX_SIZE = 2**14
"""No training is on larger squares, in pixels: a damaged header must not ask for all memory."""


@dataclass(frozen=True)
class Header:
    """What a model file says of itself.

    Attributes:
        network: the generator's name and constructor arguments, from `networks.registry.describe`.
        direction: "ab" or "ba".
        size: side in pixels of the square that training scaled whole images to, or None where it cut squares
            out of images at their own scale.
        origin: the method and the image count that made it, or the file it was imported from.
        noise: whether the network's dropout is noise that stays at test time, as in pix2pix.
        lab: whether it gives lightness its colour, or the other way round (see `twofold.colours`); left out of
            the file where it does not.
        labels: whether it takes label maps, which are resized without mixing colours; left out likewise.
        dtype, range: how stored values meet the network's.
    """

    network: dict[str, Any]
    direction: str
    size: int | None
    origin: dict[str, Any] = field(default_factory=dict)
    noise: bool = False
    lab: bool = False
    labels: bool = False
    dtype: str = "uint8"
    range: tuple[float, float] = (-1.0, 1.0)
    format: int = FORMAT


def read_header(path: Path) -> Header:
    """The header of a model file, without its weights.

    Raises:
        UsageError: no such file.
        TwofoldError: damaged, not a twofold model, or of a newer format.
    """
    if not path.is_file():
        raise UsageError(f"there is no model {path}")
    if path.suffix in (".pth", ".pt", ".ckpt"):
        raise UsageError(
            f"{path} is a PyTorch checkpoint: `twofold import {path.name} -o model.safetensors` first"
        )
    try:
        with safe_open(path, "pt") as content:
            return header_from(json.loads((content.metadata() or {})["twofold"]), path)
    except SafetensorError as error:
        raise TwofoldError(
            f"{path} is not a whole .safetensors file ({error!s:.80}); make or copy it again"
        ) from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise TwofoldError(
            f"{path} is not a model that twofold wrote; import checkpoints with `twofold import`"
        ) from error


def header_from(said: dict[str, Any], path: Path) -> Header:
    """The header that a file's JSON spells, of which nothing is taken on trust.

    Raises:
        TwofoldError: it is of a newer format.
        KeyError, TypeError, ValueError: it is no header.
    """
    if said["format"] > FORMAT:
        raise TwofoldError(
            f"{path} has format {said['format']}, this twofold reads up to {FORMAT}: update twofold"
        )
    fields: dict[str, Any] = said | {"range": tuple(said["range"])}
    header = Header(**fields)
    sized = header.size is None or (type(header.size) is int and 1 <= header.size <= MAX_SIZE)
    mapped = isinstance(header.network, dict) and isinstance(header.origin, dict)
    switches = (header.noise, header.lab, header.labels)
    plain = type(header.format) is int and all(type(switch) is bool for switch in switches)
    if mapped and header.lab and {header.network.get(f"{end}_channels") for end in ("in", "out")} != {1, 2}:
        raise ValueError("lightness is one channel and colour are two")
    if not (sized and mapped and plain and header.direction in DIRECTIONS):
        raise ValueError("a field of the header is of the wrong kind")
    if (header.dtype, header.range) != (Header.dtype, Header.range):
        raise TwofoldError(f"{path} takes {header.dtype} images, which needs a newer twofold: update twofold")
    return header


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


def save(generator: Generator, header: Header, path: Path) -> None:
    """Write a model file, aside, and rename it: it is whole or absent. OSError where the disk refuses."""
    weights = {name: t.detach().cpu().contiguous() for name, t in generator.state_dict().items()}
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with aside.open("wb") as file:  # safetensors' own writer hides what the disk said
            file.write(to_bytes(weights, {"twofold": spelled(header)}))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def spelled(header: Header) -> str:
    """The header as a file holds it."""
    said = {k: v for k, v in asdict(header).items() if v or k not in ("lab", "labels")}
    return json.dumps(said, sort_keys=True)


def header_of(
    generator: Generator, direction: str, size: int | None, origin: dict[str, Any], noise: bool = False
) -> Header:
    """The header of a generator of ours."""
    return Header(describe(generator), direction, size, origin, noise)
