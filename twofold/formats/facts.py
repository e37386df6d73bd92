"""What a file says about its image before any pixel is decoded, and the error for files that cannot be used."""

from typing import NamedTuple

from twofold.errors import TwofoldError

MAX_PIXELS = 2**28
"""An image with more pixels (16,384 x 16,384) is refused as a decompression bomb."""


class ImageError(TwofoldError):
    """One file that cannot be read or written as an image; the message names it."""


class Facts(NamedTuple):
    """What a file's header says."""

    width: int
    """Pixels, after the EXIF rotation."""
    height: int
    channels: int
    """As `images.read` without `channels` would return: 1, 3, 4, or any number in a `.npy` file."""
    grey: bool
    """No colour is stored; also True of grey with alpha."""
    dtype: str = "uint8"
    """Of the stored values."""
    bits: int = 8
    """Significant bits that the format declares."""
    alpha: bool = False
    """Whether the last channel is alpha."""
    frames: int = 1
    palette: tuple[tuple[int, int, int], ...] = ()
    """Colours of an indexed picture."""


def check_size(width: int, height: int) -> None:
    """Raise ImageError for an image without pixels or with more than `MAX_PIXELS`."""
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width} x {height}); remove it")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{width:,} x {height:,} pixels are over the limit of {MAX_PIXELS:,} (a decompression bomb?); "
            "make it smaller or cut it into tiles"
        )
