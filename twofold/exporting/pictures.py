"""The pictures that an export is proven on: held-out images of the run, or else the built-in ones."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from twofold.errors import TwofoldError
from twofold.evaluation.doctor.folder import files
from twofold.formats import images
from twofold.formats.contract import Contract, Pixels
from twofold.formats.lab import to_lab
from twofold.read_untrusted import mapping, room
from twofold.seasons import landscape
from twofold.translation import inputs
from twofold.translation.header import Header
from twofold.translation.translator import COLOUR, LIGHTNESS

COUNT = 3
"""Pictures of one export."""

LARGEST = 512
"""Largest side in pixels of a picture that is not scaled to a given size; of a larger one the middle is cut out."""


class Picture(NamedTuple):
    """A picture as the network's source contract stores it, (H, W, C)."""

    name: str
    pixels: Pixels


def pictures(header: Header, run: Path | None) -> list[Picture]:
    """Held-out images of a run; the built-in pictures without a run, or where no image can be read."""
    found = [*islice(held_out(header, run / "data.json"), COUNT)] if run else []
    return found or [Picture(f"built-in {seed}", drawn(seed, header)) for seed in range(COUNT)]


def held_out(header: Header, data: Path) -> Iterator[Picture]:
    """The held-out images of the source domain that can be read; `data` is the run's data.json."""
    document, side = mapping(data), header.direction[0]
    domain = room(document, side)
    part = str((room(domain, "val") or domain).get("part"))
    for file in files(document, side).held_out:
        try:
            stored = inputs.read(file.path, header.source_contract, header.layout)
            half = halves(stored.pixels, part)
            pixels = images.fit(stored._replace(pixels=half), header.source_contract)
        except TwofoldError:
            continue
        yield Picture(file.path.name, for_network(pixels, header))


def halves(pixels: Pixels, part: str) -> Pixels:
    """The half of a pair in one image that is of this domain."""
    middle = pixels.shape[1] // 2
    return {"left": pixels[:, :middle], "right": pixels[:, middle:]}.get(part, pixels)


def drawn(seed: int, header: Header) -> Pixels:
    """A built-in landscape with the values of the source domain: its bands are red, green and blue in turn."""
    contract = header.source_contract
    summer, _ = landscape.draw(seed, 256)
    bands = summer[..., np.arange(contract.channels) % 3]
    return for_network(with_values(bands, contract), header)


def with_values(bands: Pixels, contract: Contract) -> Pixels:
    """uint8 (H, W, C) spread over the range, or over the classes in equal shares, of a contract."""
    if contract.labels:
        values = np.array(contract.labels.values)
        borders = np.quantile(bands[..., 0], np.arange(1, len(values)) / len(values))
        return values[np.digitize(bands[..., 0], borders)].astype(contract.dtype)
    low, high = np.array(contract.low), np.array(contract.high)
    return (low + bands / 255 * (high - low)).astype(contract.dtype)


def for_network(pixels: Pixels, header: Header) -> Pixels:
    """The pixels themselves, or for a network in Lab the part of them that it sees."""
    if not header.lab:
        return pixels
    return to_lab(pixels)[..., LIGHTNESS if header.network["in_channels"] == 1 else COLOUR]


def middle(pixels: Pixels, most: int = LARGEST) -> Pixels:
    """At most `most` pixels of each side, around the middle."""
    top, left = (max(0, side - most) // 2 for side in pixels.shape[:2])
    return pixels[top : top + most, left : left + most]
