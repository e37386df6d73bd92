"""The image at each position of the stream, and its crop: pure functions of the position.

Positions count the images of one domain over all ranks since the run began, so neither the number of ranks
nor a resume changes the images.
"""

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.randomness import generator

DomainName = Literal["a", "b"]


class Placement(NamedTuple):
    """The random choices for one crop."""

    y: float
    """The place of the crop from the top, as a fraction of the free space, in [0, 1)."""
    x: float
    flip: bool
    jitter: tuple[float, float, float]
    """Brightness, contrast, saturation, each in [-1, 1)."""
    upside_down: bool
    turns: int
    """Quarter turns, 0 to 3."""


def pick(seed: int, domain: DomainName, count: int, position: int) -> int:
    """The number of the image at `position`: each of `count` images once in every `count` positions, in a new order."""
    cycle, place = divmod(position, count)
    return int(_order(seed, domain, count, cycle)[place])


@lru_cache(maxsize=8)  # both domains, and the next cycle of each, for two loaders
def _order(seed: int, domain: DomainName, count: int, cycle: int) -> NDArray[np.int64]:
    return generator("order", seed, domain, cycle).permutation(count)


def placement(seed: int, domain: DomainName, position: int) -> Placement:
    """Crop, flips, turns and colour at `position`; always all drawn, so no setting changes the draws of another."""
    y, x, flip, *jitter, upside_down, turn = generator("placement", seed, domain, position).random(8)
    brightness, contrast, saturation = (2 * float(draw) - 1 for draw in jitter)
    colour = brightness, contrast, saturation
    return Placement(float(y), float(x), bool(flip < 0.5), colour, bool(upside_down < 0.5), int(4 * turn))


def offset(fraction: float, room: int) -> int:
    """One of `room` + 1 equally likely offsets, chosen by `fraction` in [0, 1)."""
    return int(fraction * (room + 1))
