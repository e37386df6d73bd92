"""How the file of an image becomes its pixels: which part of it, at which size, with how many channels."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from twofold.data.settings import DataSettings
from twofold.formats import images
from twofold.formats.contract import Contract, Pixels
from twofold.formats.lab import to_lab
from twofold.formats.scale import Geometry

Part = Literal["whole", "left", "right", "lightness", "colour"]
"""The part of a file that is the image: everything, one half, or the lightness or colour of its Lab values."""


class LoadRule(NamedTuple):
    """Everything that the loaded pixels of a file depend on, besides the file."""

    settings: DataSettings
    contract: Contract
    """What the loaded pixels are; they do not depend on its range."""
    multiple_of: int
    """The networks need sizes to be a multiple of this; matters where whole images are used."""
    part: Part = "whole"
    labels: bool = False
    """Label maps: resized to the nearest pixel, so that no colours mix."""

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.settings.resize, self.settings.loaded, self.settings.size)

    def key(self) -> list[str | int]:
        """The values that tell this rule's cache from the caches of other rules."""
        resize, load_size, size = self.geometry
        sizes = {"crop": [], "none": [], "scale-width-and-crop": [load_size, size]}.get(resize, [load_size])
        multiple = 1 if self.settings.crops else self.multiple_of
        read = [self.contract.dtype, self.contract.channels, self.contract.icc, self.settings.layout]
        key = [resize, *sizes, multiple, *read]
        key += ["classes"] * self.contract.is_labels
        summarised = ["range"] * (self.summarised and self.contract.dtype == "uint8")
        return key + ["labels"] * self.labels + [self.part] * (self.part != "whole") + summarised

    @property
    def summarised(self) -> bool:
        """Whether the values of each file are summarised, for the range."""
        if self.contract.is_labels:
            return False
        return self.contract.dtype != "uint8" or self.contract.found == "settings"

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) in pixels at which an image of `width` x `height` is loaded.

        Whole images are rounded down to `multiple_of`, and have at least that many pixels a side where they are scaled.
        """
        height, width = self.geometry.loaded(width, height)
        if self.settings.crops:
            return height, width
        multiple = self.multiple_of
        least = 0 if self.settings.resize == "none" else multiple
        return max(least, height // multiple * multiple), max(least, width // multiple * multiple)


def read_part(path: Path, rule: LoadRule, content: bytes | None = None) -> Pixels:
    """The part of a file that is the image, (H, W, C) at its own size in the contract's dtype; for Lab still as RGB.

    Args:
        content: the bytes of the file, if the caller has read them.

    Raises:
        ImageError: the file cannot be read, or does not fit the contract.
    """
    in_lab = rule.part in ("lightness", "colour")
    contract = replace(rule.contract, channels=3) if in_lab else rule.contract
    ids = contract.is_labels and contract.channels == 1
    stored = images.read_stored(path, content, layout=rule.settings.layout, indices=ids)
    try:
        image = images.fit(stored, contract)
    except images.ImageError as error:
        raise images.ImageError(f"{path}: {error}") from None
    middle = image.shape[1] // 2
    if rule.part == "left":
        return image[:, :middle]
    return image[:, middle:] if rule.part == "right" else image


def to_load_size(image: Pixels, rule: LoadRule) -> Pixels:
    """The result of `read_part`, at load size and in the channels of the domain."""
    height, width = rule.shape(image.shape[1], image.shape[0])
    image = images.resize(np.ascontiguousarray(image), height, width, nearest=rule.labels)
    if rule.part == "lightness":
        return to_lab(image)[..., :1]
    return to_lab(image)[..., 1:] if rule.part == "colour" else image
