"""Test images as the stored pixels that a contract describes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twofold.data.ranges import Summary, find_range, summarise
from twofold.formats import images
from twofold.formats.contract import Contract, Pixels
from twofold.formats.display import View
from twofold.formats.facts import ImageError
from twofold.formats.npy import Layout
from twofold.formats.values import UINT8
from twofold.read_untrusted import as_list
from twofold.translation.inputs import read


def read_as(path: Path, contract: Contract, layout: Layout = "hwc") -> Pixels:
    """The image in a file, upright, (H, W, C) in the type and the channels of a contract.

    Raises:
        ImageError: it cannot be read, does not fit the contract, or has values that are not finite.
    """
    stored = read(path, contract, layout)
    try:
        pixels = images.fit(stored, contract)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ImageError(f"{path}: has NaN or infinite values; replace them or leave the file out")
    return pixels


def contract_of(paths: Sequence[Path], layout: Layout = "hwc") -> Contract:
    """What images are that no model describes: 8-bit RGB, else the type and the channels of the first of them.

    The range of deeper images is found in all of them, as training finds it.

    Raises:
        ImageError: a file cannot be read, or is unlike the first.
        UsageError: all pixels are equal.
    """
    facts = images.inspect(paths[0], layout=layout)
    if facts.dtype == "uint8" and facts.channels in (1, 3, 4):
        return UINT8
    contract = Contract(facts.dtype, facts.channels)
    rows, pixels = [], []
    for path in paths:
        image = read_as(path, contract, layout)
        rows.append(summarise(image))
        pixels.append(image.shape[0] * image.shape[1])
    return find_range(contract, None, Summary(np.stack(rows).astype(np.float64), np.array(pixels)))


def view_of(contract: Contract, data: dict[Any, Any], side: str) -> View:
    """How sample grids show domain "a" or "b"; `data` are a run's settings of its images, read without trust."""
    named = as_list(data.get(f"show_{side}"))
    known = all(type(place) is int and 0 <= place < contract.channels for place in named)
    return View(contract, named if known and len(named) in (1, 3) else ())
