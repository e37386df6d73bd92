"""The value range of a domain: a summary of each file's values, and the range that follows from those of a training set."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.data.manifest import File, Folder
from twofold.data.settings import Range
from twofold.errors import UsageError
from twofold.formats.contract import Contract, Pixels

SAMPLED = 65_521
"""Pixels of a file that its summary is made of, at most. A prime, so that no column of an image is left out."""

BITS = (8, 10, 12, 14, 16, 20, 24, 32)
"""Bit depths of instruments, of which an unsigned range has the least that holds every value."""

TAIL = 0.05
"""Percent of the values of signed and floating-point sets that are cut off at each end."""

_half = np.concatenate(([0], np.geomspace(1 / SAMPLED, 0.5, 64)))
_edges = np.concatenate((_half, 1 - _half[-2::-1]))
LEVELS, WEIGHTS = (_edges[1:] + _edges[:-1]) / 2, np.diff(_edges)
"""The quantiles of a summary, close together at both ends, and the share of the values that each stands for."""


COLUMNS = 2 + len(LEVELS)
"""Values of a row: the least, the greatest, and the quantiles at `LEVELS`."""


class Summary(NamedTuple):
    """The values of some files: one row for each file and channel."""

    values: NDArray[np.float64]
    """(files, channels, COLUMNS)."""
    pixels: NDArray[np.int64]
    """(files,), of each file."""


def summarise(image: Pixels) -> Pixels:
    """The rows of one image (H, W, C): (C, COLUMNS) in its dtype.

    The least and the greatest value are those of all pixels, the quantiles those of a regular sample.
    """
    flat = image.reshape(-1, image.shape[2])
    count = min(len(flat), SAMPLED)
    ordered = np.sort(flat[np.arange(count) * len(flat) // count], axis=0)
    places = (LEVELS * len(ordered)).astype(int)
    return np.concatenate((flat.min(0)[None], flat.max(0)[None], ordered[places])).T


def of_files(folder: Folder, stats: Pixels, files: Sequence[File]) -> Summary:
    """The summaries of some files of a folder; `stats` has a row for each of `folder.files`."""
    row = {file.name: place for place, file in enumerate(folder.files)}
    values = stats[[row[file.name] for file in files]].astype(np.float64)
    return Summary(values, np.array([file.width * file.height for file in files], np.int64))


def percentiles(found: Summary, levels: Sequence[float]) -> NDArray[np.float64]:
    """Percentiles of all values of the files together, (len(levels),), levels in percent.

    The distribution of a set is the mean of those of its files, weighted by their pixels.
    """
    values = found.values[..., 2:]
    weights = np.broadcast_to(found.pixels[:, None, None] * WEIGHTS, values.shape).ravel()
    order = np.argsort(values, axis=None)
    reached = np.cumsum(weights[order]) - weights[order] / 2
    return np.interp(np.asarray(levels) / 100 * weights.sum(), reached, values.ravel()[order])


def find_range(contract: Contract, wanted: Range, found: Summary) -> Contract:
    """The contract with the range of the training set: the user's, or one that follows from its values.

    Raises:
        UsageError: all values are equal, or nearly all; the message does not name the domain.
    """
    if wanted == "per-channel" and contract.dtype != "uint8":
        channels = np.split(found.values, contract.channels, axis=1)
        each = [
            _limits(contract.dtype, Summary(values, found.pixels), f"channel {i}")
            for i, values in enumerate(channels)
        ]
        low, high = (tuple(limits) for limits in zip(*each, strict=True))
    elif contract.dtype == "uint8" or contract.found == "settings":
        return contract
    else:
        low, high = ((limit,) for limit in _limits(contract.dtype, found, "the training set"))
    how: Literal["bits", "percentiles"] = "bits" if contract.dtype.startswith("u") else "percentiles"
    return replace(contract, low=low, high=high, found=how)


def _limits(dtype: str, found: Summary, where: str) -> tuple[float, float]:
    least, greatest = float(found.values[..., 0].min()), float(found.values[..., 1].max())
    if least == greatest:
        raise UsageError(f"every value of {where} is {number(least)}, so no range can be found; set one")
    if dtype.startswith("u"):
        return 0.0, float(2 ** next(bits for bits in BITS if greatest < 2**bits) - 1)
    low, high = map(float, percentiles(found, (TAIL, 100 - TAIL)))
    if not dtype.startswith("f"):
        low, high = floor(low), ceil(high)
    if low >= high:
        raise UsageError(
            f"nearly every value of {where} is {number(low)} (all lie in {number(least)} to {number(greatest)}), so"
            " no range can be found; set one"
        )
    return float(low), float(high)


def outside(found: Summary, contract: Contract) -> NDArray[np.float64]:
    """The share of each file's pixels that lie outside the range, (files,): in the channel where it is greatest."""
    values = found.values[..., 2:]
    low, high = (np.array(limits)[:, None] for limits in (contract.low, contract.high))
    return (((values < low) | (values > high)) * WEIGHTS).sum(2).max(1)


def sentence(contract: Contract, found: Summary) -> str:
    """One line: "uint16, 1 channel, values 87…3,912 of 0…4,095 (12 bits); 0.0 % clipped"."""
    least, greatest = found.values[..., 0].min(), found.values[..., 1].max()
    clipped = np.average(outside(found, contract), weights=found.pixels)
    return (
        f"{contract.dtype}, {contract.channels} channel{'' if contract.channels == 1 else 's'},"
        f" values {number(least)}…{number(greatest)} of {limits(contract)}; {100 * clipped:.1f} % clipped"
    )


def limits(contract: Contract) -> str:
    """The range in words: "0…4,095 (12 bits)"."""
    ranges = [f"{number(low)}…{number(high)}" for low, high in zip(contract.low, contract.high, strict=True)]
    whole = ranges[0] if len(set(ranges)) == 1 else f"{', '.join(ranges)} by channel"
    bits = f"{int(max(contract.high)).bit_length()} bits"
    how = {"bits": bits, "percentiles": f"{TAIL} and {100 - TAIL} percentiles", "settings": "as set"}
    return f"{whole} ({how[contract.found]})" if contract.found in how else whole


def number(value: float) -> str:
    """A whole number with its thousands apart, another one with four digits."""
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"
