"""How the file of an image becomes its pixels: which part of it, at which size, with how many channels."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from twofold.data.settings import DataSettings
from twofold.formats import images
from twofold.formats.images import Uint8
from twofold.formats.lab import to_lab
from twofold.formats.scale import Geometry

Part = Literal["whole", "left", "right", "lightness", "colour"]
"""The part of a file that is the image: everything, one half, or the lightness or colour of its Lab values."""


class LoadRule(NamedTuple):
    """Everything that the loaded pixels of a file depend on, besides the file."""

    settings: DataSettings
    channels: int
    multiple_of: int
    """The networks need sizes to be a multiple of this; matters where whole images are used."""
    labels: bool = False
    """Label maps: resized to the nearest pixel, so that no colours mix."""
    part: Part = "whole"

    def key(self) -> list[str | int]:
        """The values that tell this rule's cache from the caches of other rules."""
        s = self.settings
        sizes = {
            "resize-and-crop": [s.loaded],
            "shortest": [s.loaded],
            "scale-width": [s.loaded],
            "scale-width-and-crop": [s.loaded, s.size],
        }.get(s.resize, [])
        key = [s.resize, *sizes, self.channels, self.multiple_of if s.resize == "none" else 1]
        return key + ["labels"] * self.labels + [self.part] * (self.part != "whole")

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) in pixels at which an image of `width` x `height` is loaded.

        resize-and-crop squashes to a square, as the original does. scale-width-and-crop keeps the proportions
        (an image that would be lower than the crop is scaled until it fits, where the original distorts it). crop
        keeps the size; none rounds it down to `multiple_of`.
        """
        size, loaded, multiple = self.settings.size, self.settings.loaded, self.multiple_of
        match self.settings.resize:
            case "resize-and-crop":
                return loaded, loaded
            case "scale-width-and-crop":
                scale = max(loaded / width, size / height)
                return max(size, round(height * scale)), max(size, round(width * scale))
            case "shortest" | "scale-width":
                return Geometry(self.settings.resize, loaded, size).loaded(width, height)
            case "crop":
                return height, width
            case "none":
                return height // multiple * multiple, width // multiple * multiple


def read_part(path: Path, rule: LoadRule, content: bytes | None = None) -> Uint8:
    """The part of a file that is the image, (H, W, C) at its own size; for Lab still as RGB.

    Args:
        content: the bytes of the file, if the caller has read them.

    Raises:
        ImageError: the file cannot be read.
    """
    in_lab = rule.part in ("lightness", "colour")
    image = images.read(path, 3 if in_lab else rule.channels, content)
    middle = image.shape[1] // 2
    if rule.part == "left":
        return image[:, :middle]
    return image[:, middle:] if rule.part == "right" else image


def to_load_size(image: Uint8, rule: LoadRule) -> Uint8:
    """The result of `read_part`, at load size and in the channels of the domain."""
    height, width = rule.shape(image.shape[1], image.shape[0])
    image = images.resize(np.ascontiguousarray(image), height, width, nearest=rule.labels)
    if rule.part == "lightness":
        return to_lab(image)[..., :1]
    return to_lab(image)[..., 1:] if rule.part == "colour" else image
