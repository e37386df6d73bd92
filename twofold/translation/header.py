"""The header of a model file: which network the weights belong to, and how to feed it. Read without torch."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open

from twofold.errors import TwofoldError, UsageError

FORMAT = 1
"""Version of the header that this package writes, and the newest that it reads."""

MAX_SIZE = 2**14
"""Largest size in pixels that a header may name: a damaged one must not make the translator take all memory."""


@dataclass(frozen=True, config={"strict": True, "extra": "forbid"})
class Header:
    """The metadata of a model file; a wrong type or value is a ValueError.

    Attributes:
        network: the generator's name and constructor arguments, from `networks.registry.describe`.
        direction: "ab" or "ba".
        size: side in pixels of the square that training scaled whole images to; None if training cut squares out
            of images at their own scale.
        origin: the method and the image count of the run that made it, or the file it was imported from.
        noise: whether dropout stays on at test time, as the noise z of pix2pix.
        lab: whether the network predicts colour from lightness or lightness from colour, in Lab
            (`twofold.formats.lab`). Written only if true.
        labels: whether the inputs are label maps, which are resized to the nearest pixel. Written only if true.
        dtype, range: the stored values that the network's range stands for.
    """

    network: dict[str, Any]
    direction: Annotated[str, Field(pattern="^(ab|ba)$")]
    size: Annotated[int, Field(ge=1, le=MAX_SIZE)] | None
    origin: dict[str, Any] = Field(default_factory=dict)
    noise: bool = False
    lab: bool = False
    labels: bool = False
    dtype: str = "uint8"
    range: Annotated[tuple[float, float], Strict(False)] = (-1.0, 1.0)  # JSON has lists
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.lab and {self.network.get(f"{end}_channels") for end in ("in", "out")} != {1, 2}:
            raise ValueError("a Lab network has one lightness channel at one end, two of colour at the other")

    def to_json(self) -> str:
        """The header as the file stores it: sorted keys; no time, host or path."""
        fields = {
            name: value for name, value in asdict(self).items() if value or name not in ("lab", "labels")
        }
        return json.dumps(fields, sort_keys=True)


def read_header(path: Path) -> Header:
    """Read the header of a model file, without the weights.

    Raises:
        UsageError: the file does not exist, or is a PyTorch checkpoint.
        TwofoldError: the file is damaged, not a twofold model, or of a newer format.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give a .safetensors model file or a run folder")
    if path.suffix in (".pth", ".pt", ".ckpt"):
        raise UsageError(
            f"{path} is a PyTorch checkpoint; first run `twofold import {path.name} -o model.safetensors`"
        )
    try:
        with safe_open(path, "np") as file:
            content = json.loads((file.metadata() or {})["twofold"])
        if content["format"] > FORMAT:
            raise TwofoldError(
                f"{path} has format {content['format']}; this twofold reads up to {FORMAT}: update twofold"
            )
        header = Header(**content)
    except SafetensorError as error:
        raise TwofoldError(f"{path} is incomplete or damaged ({error!s:.80}); copy it again") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise TwofoldError(
            f"{path} is not a model that twofold wrote; convert checkpoints with `twofold import`"
        ) from error
    if (header.dtype, header.range) != (Header.dtype, Header.range):
        raise TwofoldError(f"{path} takes {header.dtype} images, which needs a newer twofold: update twofold")
    return header
