"""How one image is loaded, and a folder of them as an indexed store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twofold.data.settings import DataSettings
from twofold.formats import images
from twofold.formats.lab import to_lab

Part = Literal["whole", "left", "right", "lightness", "colour"]
"""What of a file is the image: all, a half of it, or one side of its Lab colours."""


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
    labels: bool = False
    """Resized to the nearest pixel, so that no colours mix."""
    part: Part = "whole"

    def key(self) -> list[str | int]:
        """What separates this rule's caches from others'."""
        s = self.settings
        relevant = {"resize-and-crop": [s.loaded], "scale-width-and-crop": [s.loaded, s.size]}.get(
            s.resize, []
        )
        key = [s.resize, *relevant, self.channels, self.multiple_of if s.resize == "none" else 1]
        return key + ["labels"] * self.labels + [self.part] * (self.part != "whole")

    @property
    def stored_channels(self) -> int:
        """With how many channels a file is read."""
        return 3 if self.part in ("lightness", "colour") else self.channels


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
    return shaped(read(path, rule), rule)


def read(path: Path, rule: LoadRule) -> NDArray[np.uint8]:
    """The file, or the half of it that is the image, as (H, W, C) uint8 at its own size; Lab still as RGB."""
    image = images.read(path, rule.stored_channels)
    middle = image.shape[1] // 2
    if rule.part == "left":
        return image[:, :middle]
    return image[:, middle:] if rule.part == "right" else image


def shaped(image: NDArray[np.uint8], rule: LoadRule) -> NDArray[np.uint8]:
    """What `read` gave, at load size and in the channels of the domain."""
    height, width = load_shape(image.shape[1], image.shape[0], rule.settings, rule.multiple_of)
    image = images.resize(np.ascontiguousarray(image), height, width, nearest=rule.labels)
    if rule.part == "lightness":
        return to_lab(image)[..., :1]
    return to_lab(image)[..., 1:] if rule.part == "colour" else image


class ImageStore:
    """Images of one domain at load size, by number; from a memory-mapped cache, else decoded each time.

    Args:
        paths: the files.
        rule: how they are loaded.
        pixels: a cache's bytes, uint8 (bytes,), or None to decode.
        places: where each file's pixels lie in them.
        masks: what is to be kept of each image, by its number.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        rule: LoadRule,
        pixels: Tensor | None = None,
        places: Sequence[Place] = (),
        masks: "ImageStore | None" = None,
    ) -> None:
        self.paths = list(paths)
        self.rule = rule
        self.pixels = pixels
        self.places = list(places)
        self.masks = masks

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

    @property
    def kept(self) -> list[Tensor]:
        """The bytes of its cache and of its masks', as far as there are any."""
        own = [] if self.pixels is None else [self.pixels]
        return own + (self.masks.kept if self.masks else [])

    def on(self, device: torch.device) -> "ImageStore":
        """This store with the bytes of its cache on a device, where its images then are."""
        pixels = None if self.pixels is None else self.pixels.to(device)
        return ImageStore(self.paths, self.rule, pixels, self.places, self.masks and self.masks.on(device))
