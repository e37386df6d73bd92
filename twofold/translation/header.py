"""What a model file says of itself, read without its weights and without torch."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from twofold.errors import TwofoldError, UsageError
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
        lab: whether it gives lightness its colour, or the other way round (see `twofold.formats.lab`); left out of
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
        with safe_open(path, "np") as content:
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


def spelled(header: Header) -> str:
    """The header as a file holds it."""
    said = {k: v for k, v in asdict(header).items() if v or k not in ("lab", "labels")}
    return json.dumps(said, sort_keys=True)
