"""The header of a model file: which network the weights belong to, and how to feed it. Read without torch."""

import json
import shlex
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open

from twofold.errors import TwofoldError, UsageError
from twofold.formats.contract import Contract, Labels
from twofold.formats.scale import Geometry

FORMAT = 2
"""The newest version of the header: the one that runs write, and the newest that this package reads.

Format 1 is that of twofold 0.1 and of imported checkpoints: 8-bit images, and `size` in place of a geometry.
"""

MAX_SIZE = 2**14
"""Largest size in pixels that a header may name: a damaged one must not make the translator take all memory."""

MAX_CLASSES = 2**16
"""Most classes of label maps that a header may name: as many as 16 bits have values."""

MAX_VALUE, MAX_DOUBLE = 1e37, 1e300
"""Largest limits of a range: the arithmetic with them stays finite, in float32 and for float64 images."""

Side = Annotated[int, Field(ge=1, le=MAX_SIZE)]


def _checked_contract(contract: Contract) -> Contract:
    """The contract, checked for what would fail, or fill the memory, only in use."""
    largest = MAX_DOUBLE if contract.dtype == "float64" else MAX_VALUE
    if not all(abs(limit) <= largest for limit in (*contract.low, *contract.high)):  # NaN neither
        raise ValueError(f"a range lies between {-largest:g} and {largest:g}")
    if contract.labels:
        _check_labels(contract.labels, contract)
    return contract


def _check_labels(labels: Labels, contract: Contract) -> None:
    if not 1 <= len(labels.values) <= MAX_CLASSES or len(labels.palette) > MAX_CLASSES:
        raise ValueError(f"label maps have 1 to {MAX_CLASSES:,} classes")
    if {len(value) for value in labels.values} != {contract.channels}:
        raise ValueError(f"a class has {contract.channels} numbers, one for each channel")
    limits = np.iinfo(contract.dtype)
    if not all(limits.min <= part <= limits.max for value in labels.values for part in value):
        raise ValueError(f"{contract.dtype} does not hold every class")


def _checked_geometry(geometry: Geometry) -> Geometry:
    if not all(1 <= side <= MAX_SIZE for side in (geometry.load_size, geometry.size)):
        raise ValueError(f"the sizes of a geometry are 1 to {MAX_SIZE} pixels")
    return geometry


CheckedContract = Annotated[Contract, AfterValidator(_checked_contract)]


@dataclass(frozen=True, config={"strict": True, "extra": "forbid"})
class Header:
    """The metadata of a model file; a wrong type or value is a ValueError.

    Attributes:
        network: the generator's name and constructor arguments, from `networks.registry.describe`.
        direction: "ab" or "ba".
        size: format 1: side in pixels of the square that training scaled whole images to; None if training cut squares
            out of images at their own scale, and in format 2.
        origin: the method and the image count of the run that made it, or the file it was imported from.
        noise: whether dropout stays on at test time, as the noise z of pix2pix.
        lab: whether the network predicts colour from lightness or lightness from colour, in Lab
            (`twofold.formats.lab`). The contracts are then those of the RGB images. Written only if true.
        labels: whether the inputs are label maps of unknown classes, which are resized to the nearest pixel. Written
            only if true.
        dtype, range: format 1: the stored values that the network's range stands for.
        source, target: format 2: the contracts of the inputs and of the outputs.
        geometry: format 2: the scale that training saw.
        layout: the order of the axes of arrays in .npy and .npz files. Written only if "chw".
    """

    network: dict[str, Any]
    direction: Annotated[str, Field(pattern="^(ab|ba)$")]
    size: Side | None = None
    origin: dict[str, Any] = Field(default_factory=dict)
    noise: bool = False
    lab: bool = False
    labels: bool = False
    dtype: str = "uint8"
    range: tuple[float, float] = (-1.0, 1.0)
    source: CheckedContract | None = None
    target: CheckedContract | None = None
    geometry: Annotated[Geometry, AfterValidator(_checked_geometry)] | None = None
    layout: Literal["hwc", "chw"] = "hwc"
    format: int = 1

    @classmethod
    def of(
        cls,
        network: dict[str, Any],
        direction: str,
        source: Contract,
        target: Contract,
        geometry: Geometry,
        origin: dict[str, Any] | None = None,
        **flags: Any,
    ) -> "Header":
        """A header of format 2; `flags` are `noise`, `lab`, `labels` and `layout`.

        Raises:
            ValueError: a contract or the geometry is not one that a header may hold.
        """
        return cls(
            network,
            direction,
            origin=origin or {},
            source=source,
            target=target,
            geometry=geometry,
            format=2,
            **flags,
        )

    def __post_init__(self) -> None:
        if self.lab and {self.network.get(f"{end}_channels") for end in ("in", "out")} != {1, 2}:
            raise ValueError("a Lab network has one lightness channel at one end, two of colour at the other")
        ours = (self.source, self.target, self.geometry)
        if any((given is not None) != (self.format == 2) for given in ours):
            raise ValueError("format 2 has the fields source, target and geometry, and format 1 none of them")
        if self.format == 2 and (self.size, self.dtype, self.range) != (None, *_OF_FORMAT_1):
            raise ValueError("size, dtype and range are fields of format 1")
        for contract, end in ((self.source_contract, "in"), (self.target_contract, "out")):
            channels = self.network.get(f"{end}_channels", 3)
            if channels != contract.network_channels and not self.lab:
                raise ValueError(f"the network has {channels} channels, its contract another number")
            if self.lab and (contract.dtype, contract.channels) != ("uint8", 3):
                raise ValueError("the images of a Lab network are uint8 with 3 channels")

    @cached_property
    def source_contract(self) -> Contract:
        """What the inputs are."""
        return self.source or self._format_1("in")

    @cached_property
    def target_contract(self) -> Contract:
        """What the outputs are."""
        return self.target or self._format_1("out")

    def _format_1(self, end: str) -> Contract:
        return Contract(channels=3 if self.lab else self.network.get(f"{end}_channels", 3))

    @property
    def nearest(self) -> bool:
        """Whether inputs are resized to the nearest pixel, so that no classes mix."""
        return self.labels or self.source_contract.labels is not None

    def fields(self) -> dict[str, Any]:
        """What the file stores: the fields of the header's format."""
        unused = {"source", "target", "geometry"} if self.format == 1 else {"size", "dtype", "range"}
        unused |= {
            name for name in ("lab", "labels", "layout") if getattr(self, name) == getattr(Header, name)
        }
        fields = asdict(self) | {"geometry": self.geometry and self.geometry._asdict()}
        return {name: value for name, value in fields.items() if name not in unused}

    def to_json(self) -> str:
        """The header as the file stores it: sorted keys; no time, host or path."""
        return json.dumps(self.fields(), sort_keys=True)


_OF_FORMAT_1 = (Header.dtype, Header.range)


_HEADER = TypeAdapter(Header)


def is_model(path: Path) -> bool:
    """Whether a file is a model that twofold wrote, or a .safetensors file that cannot be read."""
    try:
        with safe_open(path, "np") as file:
            return "twofold" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return path.suffix == ".safetensors"


def read_header(path: Path) -> Header:
    """Read the header of a model file, without the weights.

    Raises:
        UsageError: the file does not exist, or is a PyTorch checkpoint.
        TwofoldError: the file is damaged, not a twofold model, or of a newer format.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give a run folder, a .safetensors model or a checkpoint")
    if path.suffix == ".onnx":
        raise UsageError(
            f"{path} holds a graph for ONNX Runtime; give the run or the .safetensors model it was made of"
        )
    if path.suffix in (".pth", ".pt", ".ckpt"):
        raise UsageError(
            f"{path} is a PyTorch checkpoint: `twofold.load` reads it; or run "
            f"`twofold import {shlex.quote(str(path))} -o model.safetensors`"
        )
    try:
        with safe_open(path, "np") as file:
            content = (file.metadata() or {})["twofold"]
    except SafetensorError as error:
        raise TwofoldError(f"{path} is incomplete or damaged ({error!s:.80}); copy it again") from error
    except KeyError as error:
        raise TwofoldError(not_ours(path)) from error
    return from_json(content, path)


def from_json(text: str, path: Path) -> Header:
    """Read what `Header.to_json` gave, out of the file `path`.

    Raises:
        TwofoldError: it is damaged, or of a newer format.
    """
    try:
        content = json.loads(text)
        if content["format"] > FORMAT:
            raise TwofoldError(
                f"{path} has format {content['format']}; this twofold reads up to {FORMAT}: update twofold"
            )
        header = _HEADER.validate_json(text)
    except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise TwofoldError(not_ours(path)) from error
    if (header.dtype, header.range) != _OF_FORMAT_1:
        raise TwofoldError(f"{path} takes {header.dtype} images, which needs a newer twofold: update twofold")
    return header


def not_ours(path: Path) -> str:
    return f"{path} is not a model that twofold wrote; convert checkpoints with `twofold import`"


# ---- in words


def contract_in_words(contract: Contract) -> str:
    """Such as "uint16, 1 channel, 0…4,095" or "uint8, 1 channel, label map of 19 classes"."""
    channels = f"{contract.channels} channel{'' if contract.channels == 1 else 's'}"
    if contract.labels:
        onehot = ", one-hot" if contract.labels.onehot else ""
        values = f"label map of {len(contract.labels.values)} classes{onehot}"
    else:
        each = [f"{low:,.6g}…{high:,.6g}" for low, high in zip(contract.low, contract.high, strict=True)]
        values = "; ".join(each[:4]) + ("; …" if len(each) > 4 else "") + " by channel" * (len(each) > 1)
    return f"{contract.dtype}, {channels}, {values}"


def scale_in_words(header: Header) -> str:
    """How an image is scaled for the network, such as "scaled so that the shorter side is 286 px"."""
    scale = header.geometry
    if scale is None:
        return f"scaled to about {header.size}² pixels" if header.size else "at its own scale"
    match scale.resize:
        case "shortest":
            return f"scaled so that the shorter side is {scale.load_size} px"
        case "resize-and-crop":
            return f"squashed to {scale.load_size} × {scale.load_size} px"
        case "scale-width" | "scale-width-and-crop":
            return f"scaled so that the width is {scale.load_size} px"
        case "crop" | "none":
            return "at its own scale"
