"""TIFF files, and grey images of 12 and 16 bits, which TIFF and PNG files hold: Pillow's integers to 8 bits."""

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.ImageFile import ImageFile

from twofold.formats.facts import ImageError
from twofold.formats.values import Uint8


def allocate(picture: ImageFile) -> None:
    """Reserve the pixels of a TIFF, whose size was checked, before Pillow does it with a lower limit of its own."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        picture.im = Image.core.new(picture.mode, picture._tile_size)


def to_8_bits(picture: Image.Image, largest: int) -> Uint8:
    """A loaded grey picture of integers as (H, W, 1); 0..`largest` is scaled to 0..255 and rounded.

    Raises:
        ImageError: a value lies outside, so that the scale is unknown.
    """
    wide = np.array(picture).astype(np.int64)
    if wide.min() < 0 or wide.max() > largest:
        raise ImageError(
            f"it has values outside 0 to {largest:,}, so their scale is unknown; save it as 8 or 16 bits"
        )
    return ((wide * 510 + largest) // (2 * largest)).astype(np.uint8)[..., None]


def raw_modes(picture: Image.Image) -> str:
    """How the file stores its values, such as `I;16`; known only until the pixels are loaded."""
    args = [tile[3] for tile in getattr(picture, "tile", [])]
    return " ".join(str(arg[0] if isinstance(arg, tuple) else arg) for arg in args[:4])
