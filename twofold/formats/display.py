"""Stored pixels as 8-bit pictures to look at: sample grids, contact sheets, and networks that were trained on pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from twofold.formats.contract import Contract, Labels, Pixels
from twofold.formats.values import UINT8, Uint8, class_of


class View(NamedTuple):
    """How the images of a domain are shown."""

    contract: Contract = UINT8
    channels: Sequence[int] = ()
    """The channels that the user chose; by default as `shown_channels`."""

    def show(self, pixels: Pixels) -> Uint8:
        """Pixels (H, W, C) in the contract's type as an 8-bit picture, (H, W, 1 or 3).

        The contract's range is mapped to 0..255, and values outside are clipped. Ids of label maps get the colours of
        their palette; without a palette they get greys that are spread over 0..255.
        """
        labels = self.contract.labels
        if labels and labels.ids:
            classes = class_of(torch.from_numpy(np.array(pixels.transpose(2, 0, 1))), labels)
            return colours(labels)[classes.numpy()]
        chosen = shown_channels(pixels.shape[2], self.channels)
        return scaled(pixels, self.contract)[..., chosen].round().clip(0, 255).astype(np.uint8)


def shown_channels(count: int, chosen: Sequence[int] = ()) -> list[int]:
    """The channels to show of `count`: those chosen, else the first three, or the first of one or two."""
    return [*chosen] or ([0] if count < 3 else [0, 1, 2])


def scaled(pixels: Pixels, contract: Contract) -> Pixels:
    """Pixels (H, W, C) with the contract's range mapped to 0..255, neither rounded nor clipped.

    float64, except that pixels of the range 0..255 are returned as they are.
    """
    if (*contract.low, *contract.high) == (0.0, 255.0):
        return pixels
    low, high = np.array(contract.low), np.array(contract.high)
    return (pixels - low) / (high - low) * 255


def colours(labels: Labels) -> NDArray[np.uint8]:
    """The colour of each class of a map of ids: (K, 3) from the palette, or (K, 1) greys where there is none."""
    if not labels.palette:
        return np.linspace(0, 255, len(labels.values)).round().astype(np.uint8)[:, None]
    ids, palette = labels.ids or (), labels.palette
    known = [palette[value] if 0 <= value < len(palette) else (0, 0, 0) for value in ids]
    return np.array(known, np.uint8)
