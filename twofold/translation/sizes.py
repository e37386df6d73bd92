"""The size in pixels at which the network sees an image."""

from collections.abc import Sequence
from numbers import Integral
from typing import Literal

import numpy as np

from twofold.errors import UsageError
from twofold.formats.contract import Pixels
from twofold.networks.layers import Generator
from twofold.translation.header import Header

At = int | Literal["trained", "native"]
"""The scale: as in training, the image's own pixels, or the mean side in pixels."""


def working_size(header: Header, multiple: int, height: int, width: int, at: At) -> tuple[int, int]:
    """Height and width in pixels at which the network sees an image, before padding."""
    if at == "trained" and header.geometry is not None:
        return header.geometry.loaded(width, height)
    side = mean_side(header, at)
    if side is None or side * side == height * width:
        return height, width
    steps = side / (height * width) ** 0.5 / multiple
    return max(1, round(height * steps)) * multiple, max(1, round(width * steps)) * multiple


def mean_side(header: Header, at: At) -> int | None:
    """The network sees about this many pixels squared; None: the image's own pixels.

    Raises:
        UsageError: `at` is none of its values.
    """
    if at == "trained":
        scale = header.geometry
        if scale is None:
            return header.size
        return None if scale.resize in ("crop", "none") else scale.load_size
    if at == "native":
        return None
    if not isinstance(at, Integral) or at < 1:
        raise UsageError(f'at must be "trained", "native" or a number of pixels, 1 or more, not {at!r}')
    return int(at)


def pad(image: Pixels, size: Sequence[int]) -> Pixels:
    """Mirror (H, W, C) at its lower and right edge up to this height and width."""
    added = [(0, whole - side) for whole, side in zip(size, image.shape[:2], strict=True)]
    return np.pad(image, [*added, (0, 0)], "symmetric")


def taken(side: int, generator: Generator) -> int:
    """The smallest side in pixels, from this one on, that the network takes."""
    return max(-(-side // generator.multiple_of) * generator.multiple_of, generator.minimum)
