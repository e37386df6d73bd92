"""What a file says about its image before any pixel is decoded, and the error for files that cannot be used."""

from typing import NamedTuple

import numpy as np

from twofold.errors import TwofoldError

MAX_PIXELS = 2**28
"""An image with more pixels (16,384 x 16,384) is refused as a decompression bomb."""

MAX_BYTES = 4 * 2**30
"""An image that takes more bytes once it is decoded is refused."""


class ImageError(TwofoldError):
    """One file that cannot be read or written as an image; the message names it."""


class Facts(NamedTuple):
    """What a file's header says.

    Attributes:
        width, height: in pixels, after the EXIF rotation.
        channels: as `images.read_stored` returns, with alpha; grey with alpha is read as 4 channels.
        grey: whether no colour is stored; also True of grey with alpha.
        dtype: numpy's name of the stored values' type.
        bits: significant bits of a value, as the file declares: 12 for a packed 12-bit TIFF, else those of `dtype`.
        alpha: whether the last channel is alpha.
        frames: how many images the file holds; the first is used.
        palette: the colours of an indexed picture, one (red, green, blue) for each index from 0.
    """

    width: int
    height: int
    channels: int
    grey: bool
    dtype: str = "uint8"
    bits: int = 8
    alpha: bool = False
    frames: int = 1
    palette: tuple[tuple[int, int, int], ...] = ()


def check_size(width: int, height: int, channels: int = 1, itemsize: int = 1) -> None:
    """Raise ImageError for an image without pixels, with over `MAX_PIXELS`, or of over `MAX_BYTES` once decoded."""
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width} x {height}); remove it")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{width:,} x {height:,} pixels are over the limit of {MAX_PIXELS:,} (a decompression bomb?); "
            "make it smaller or cut it into tiles"
        )
    if (size := width * height * channels * itemsize) > MAX_BYTES:
        raise ImageError(
            f"{width:,} x {height:,} pixels of {channels} channels take {size / 2**30:.1f} GiB of memory, over the "
            f"limit of {MAX_BYTES / 2**30:g} GiB; make it smaller or cut it into tiles"
        )


def bits_of(dtype: str) -> int:
    """The bits of a value of this type."""
    return np.dtype(dtype).itemsize * 8
