"""The size in pixels at which the network sees an image."""

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
    if at == "trained" and header.scale is not None:
        return header.scale.loaded(width, height)
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
        scale = header.scale
        if scale is None:
            return header.size
        return None if scale.resize in ("crop", "none") else scale.load_size
    if at == "native":
        return None
    if not isinstance(at, Integral) or at < 1:
        raise UsageError(f'at must be "trained", "native" or a number of pixels, 1 or more, not {at!r}')
    return int(at)


def pad(image: Pixels, generator: Generator) -> Pixels:
    """Mirror (H, W, C) at its lower and right edge up to a size that the network takes."""
    multiple, minimum = generator.multiple_of, generator.minimum
    added = [max(-(-pixels // multiple) * multiple, minimum) - pixels for pixels in image.shape[:2]]
    return np.pad(image, [(0, added[0]), (0, added[1]), (0, 0)], "symmetric") if any(added) else image
