"""The contract of a domain: what its stored pixels are, and which of them the network's range [-1, 1] stands for."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter

Pixels = NDArray[Any]
"""Pixels as they are stored, (H, W, C) in any of `DTYPES`."""

DTYPES = (
    *("uint8", "uint16", "uint32", "int8", "int16", "int32"),
    *("float16", "float32", "float64"),
)
"""The types of values that a domain may have."""

Found = Literal["dtype", "bits", "percentiles", "settings", "labels"]
"""How a range was found: all values of the type; the least number of bits that holds every value; the 0.05 and 99.95
percentiles of the training set; given by the user; the classes of a label map."""

IccName = Literal["srgb", "keep"]

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""How pydantic checks a contract in a file."""


@dataclass(frozen=True)
class Labels:
    """The classes of a domain of label maps.

    Attributes:
        values: the stored value of each class, in ascending order: one number for ids, three for colours.
        names: of the classes, in that order; empty if unknown.
        palette: for ids that were indices into a palette, the colour of each index from 0; else empty.
        onehot: whether the network has a channel for each class, in place of ids spread over [-1, 1].
    """

    __pydantic_config__ = STRICT

    values: tuple[tuple[int, ...], ...]
    names: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    onehot: bool = False

    def __post_init__(self) -> None:
        if len({len(value) for value in self.values}) != 1 or len(self.values[0]) not in (1, 3):
            raise ValueError("the classes of label maps have one number each, or three")
        if not all(one < other for one, other in pairwise(self.values)):
            raise ValueError("the values of the classes must be in ascending order, each once")
        if self.names and len(self.names) != len(self.values):
            raise ValueError(f"there are {len(self.names)} names of {len(self.values)} classes")

    @property
    def ids(self) -> tuple[int, ...] | None:
        """The id of each class; None where classes are colours."""
        return tuple(value for (value,) in self.values) if len(self.values[0]) == 1 else None

    def unknown_ids(self, pixels: Pixels) -> list[int]:
        """The ids in (H, W, 1) that are no class, in ascending order; none where classes are colours."""
        return [] if self.ids is None else np.unique(pixels[~np.isin(pixels, self.ids)]).tolist()


@dataclass(frozen=True)
class Contract:
    """What the pixels of a domain are.

    Attributes:
        dtype: of the stored values, one of `DTYPES`.
        channels: of the stored pixels.
        low, high: the stored values that become -1 and 1 in the network: one number for all channels, or one for
            each channel.
        found: how the range was found.
        labels: the classes, if the images are label maps.
        icc: "srgb": pictures with a colour profile are converted to sRGB; "keep": they are not.
    """

    __pydantic_config__ = STRICT

    dtype: str = "uint8"
    channels: int = 3
    low: tuple[float, ...] = (0.0,)
    high: tuple[float, ...] = (255.0,)
    found: Found = "dtype"
    labels: Labels | None = None
    icc: IccName = "keep"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype}")
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, not {self.channels}")
        if len(self.low) != len(self.high) or len(self.low) not in (1, self.channels):
            raise ValueError("low and high must be one number each, or one for each channel")
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low must be below high, not {self.low} and {self.high}")

    @property
    def network_channels(self) -> int:
        """Channels that the network sees: one for each class of one-hot labels, else those of the pixels."""
        return len(self.labels.values) if self.labels and self.labels.onehot else self.channels

    @property
    def is_labels(self) -> bool:
        """Whether the values are classes, of which no others may be made; they are in `labels` once they are known."""
        return self.found == "labels" or self.labels is not None

    @property
    def is_deep(self) -> bool:
        """Whether the values need more than 8 bits, and so float32 in the last layer and the losses."""
        return self.dtype not in ("uint8", "int8") and not self.is_labels

    @property
    def span(self) -> float:
        """The distance from the lowest to the highest value of the range; what a PSNR is relative to."""
        return max(self.high) - min(self.low)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Contract":
        """Read what `to_dict` gave.

        Raises:
            ValueError: a key, a type or a value is wrong.
        """
        if not {"low", "high"} <= content.keys():
            raise ValueError("a contract has the keys low and high")
        return _CONTRACT.validate_json(json.dumps(content))


_CONTRACT = TypeAdapter(Contract)


def whole_range(dtype: str) -> tuple[float, float]:
    """The lowest and highest value of an integer type."""
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)
