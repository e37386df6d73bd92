"""How one image is loaded, and a folder of them as an indexed store."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twofold import images
from twofold.data.settings import DataSettings


class Place(NamedTuple):
    """Where one decoded image lies in a cache's pixels."""

    offset: int
    height: int
    width: int


class LoadRule(NamedTuple):
    """Everything that the loaded pixels of a file depend on, beside the file."""

    settings: DataSettings
    channels: int
    multiple_of: int

    def key(self) -> list[str | int]:
        """What separates this rule's caches from others'."""
        s = self.settings
        relevant = {"resize-and-crop": [s.loaded], "scale-width-and-crop": [s.loaded, s.size]}.get(
            s.resize, []
        )
        return [s.resize, *relevant, self.channels, self.multiple_of if s.resize == "none" else 1]


def load_shape(width: int, height: int, settings: DataSettings, multiple_of: int) -> tuple[int, int]:
    """(height, width) in pixels at which an image of `width` x `height` is loaded.

    resize-and-crop squashes to a square, as the original does. scale-width-and-crop keeps the proportions
    (what would come out lower than the crop is scaled until it fits, where the original distorts it). crop
    keeps the size; none rounds it down to the network's multiple.
    """
    match settings.resize:
        case "resize-and-crop":
            return settings.loaded, settings.loaded
        case "scale-width-and-crop":
            scale = max(settings.loaded / width, settings.size / height)
            return max(settings.size, round(height * scale)), max(settings.size, round(width * scale))
        case "crop":
            return height, width
        case "none":
            return height // multiple_of * multiple_of, width // multiple_of * multiple_of


def load(path: Path, rule: LoadRule) -> NDArray[np.uint8]:
    """A file as (H, W, C) uint8 at load size.

    Raises:
        ImageError: the file cannot be read.
    """
    return shaped(images.read(path, rule.channels), rule)


def shaped(image: NDArray[np.uint8], rule: LoadRule) -> NDArray[np.uint8]:
    """An image of any size (H, W, C) at load size."""
    height, width = load_shape(image.shape[1], image.shape[0], rule.settings, rule.multiple_of)
    return images.resize(image, height, width)


class ImageStore:
    """Images of one domain at load size, by number; from a memory-mapped cache, else decoded each time.

    Args:
        paths: the files.
        rule: how they are loaded.
        pixels: a cache's bytes, uint8 (bytes,), or None to decode.
        places: where each file's pixels lie in them.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        rule: LoadRule,
        pixels: Tensor | None = None,
        places: Sequence[Place] = (),
    ) -> None:
        self.paths = list(paths)
        self.rule = rule
        self.pixels = pixels
        self.places = list(places)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        """Image `i`, uint8 (H, W, C); of a cached store a view of a read-only map, so never write to it."""
        if self.pixels is None:
            return torch.from_numpy(load(self.paths[i], self.rule))
        offset, height, width = self.places[i]
        flat = self.pixels[offset : offset + height * width * self.rule.channels]
        return flat.view(height, width, self.rule.channels)

    @property
    def cached(self) -> bool:
        return self.pixels is not None
