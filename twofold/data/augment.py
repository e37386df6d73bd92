"""Flips, turns and colour jitter of a whole batch, on the device."""

from typing import NamedTuple

import torch
from torch import Tensor

from twofold.formats.contract import Contract
from twofold.formats.values import UINT8, to_network
from twofold.metrics.structure import LUMA


class Moves(NamedTuple):
    """Which crops are mirrored and turned, bool (N,) each; None: none."""

    left_right: Tensor | None = None
    top_down: Tensor | None = None
    half_turn: Tensor | None = None
    quarter_turn: Tensor | None = None
    """By 90°, besides the half turn; for squares."""


def moved(images: Tensor, moves: Moves) -> Tensor:
    """Images (N, C, H, W) mirrored, then turned."""
    changed = (
        lambda x: x.flip(3),
        lambda x: x.flip(2),
        lambda x: x.flip(2, 3),
        lambda x: x.rot90(1, (2, 3)),
    )
    for chosen, change in zip(moves, changed, strict=True):
        if chosen is not None:
            images = torch.where(chosen[:, None, None, None], change(images), images)
    return images


def augment(crops: Tensor, moves: Moves, jitter: Tensor | None, contract: Contract = UINT8) -> Tensor:
    """Flip, turn and jitter crops, and bring them to the values of the networks.

    Args:
        crops: (N, C, H, W) in the dtype of `contract`.
        jitter: float32 (N, 3), the change of brightness, contrast and saturation, in [-1, 1]; None: no change.

    Returns:
        float32 (N, network channels, H, W) in [-1, 1].
    """
    floats = moved(to_network(crops, contract), moves)
    return floats if jitter is None else _jittered(floats, jitter)


def _jittered(floats: Tensor, jitter: Tensor) -> Tensor:
    """Brightness scales the values, contrast their distance to the mean, saturation that to grey; alpha stays."""
    brightness, contrast, saturation = (1 + jitter[:, :, None, None, None]).unbind(1)  # each (N, 1, 1, 1)
    channels = floats.shape[1]
    colour = floats[:, :3] if channels == 4 else floats
    colour = (colour + 1) / 2 * brightness
    mean = colour.mean(dim=(1, 2, 3), keepdim=True)
    colour = mean + (colour - mean) * contrast
    if channels in (3, 4):
        red, green, blue = colour.split(1, 1)
        luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
        colour = luma + (colour - luma) * saturation
    colour = colour.clamp(0, 1) * 2 - 1
    return torch.cat([colour, floats[:, 3:]], 1) if channels == 4 else colour
