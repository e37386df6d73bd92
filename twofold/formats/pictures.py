"""Everything that Pillow reads: JPEG, PNG, WebP, BMP, TIFF, AVIF and GIF, to uint8 (H, W, C)."""

import struct
from contextlib import suppress
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from twofold.formats import tiff
from twofold.formats.facts import Facts, ImageError, check_size
from twofold.formats.values import Uint8

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "GIF")
"""What a file may turn out to be, whatever its name says. Pillow's rarer decoders stay closed."""

_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read(file: BinaryIO, channels: int | None) -> Uint8:
    """The first frame, upright, with `channels` channels if given."""
    with open_picture(file) as picture:
        tiff.allocate(picture)
        return from_picture(picture, channels)


def inspect(file: BinaryIO) -> Facts:
    """What the header says."""
    with open_picture(file) as picture:
        width, height = picture.size
        # Pillow's size of a TIFF is already the rotated one.
        if picture.format != "TIFF" and _orientation(picture) >= 5:
            width, height = height, width
        deep = picture.mode.startswith("I")
        grey = deep or picture.mode in ("1", "L", "LA", "La", "F")
        channels = 4 if picture.has_transparency_data and not deep else 1 if grey else 3
        deep = deep or ";16" in tiff.raw_modes(picture)
        dtype, bits = ("uint16", 16) if deep else ("uint8", 8)
        return Facts(
            width, height, channels, grey, dtype, bits, channels == 4, getattr(picture, "n_frames", 1)
        )


def open_picture(file: BinaryIO) -> ImageFile:
    """Open a file as `PIL.Image.open` does, but without its limit of pixels, which holds for the whole process.

    Raises:
        UnidentifiedImageError: the file is in none of `FORMATS`.
        ImageError: it has no pixels, or more than `facts.MAX_PIXELS`.
    """
    prefix = file.read(16)
    for name in FORMATS:
        if name not in Image.OPEN:
            Image.init()
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(prefix) is True:
            file.seek(0)
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # not this format after all
                picture = factory(file, "")
                check_size(*picture.size)
                return picture
    raise UnidentifiedImageError


def from_picture(picture: Image.Image, channels: int | None = None) -> Uint8:
    """The pixels of a Pillow picture, as `read` gives those of a file."""
    check_size(*picture.size)
    largest = 4095 if tiff.raw_modes(picture) == "I;12" else 65535
    picture.load()
    if (turn := _TRANSPOSE.get(_orientation(picture))) is not None:
        picture = picture.transpose(turn)
    if picture.mode == "F":
        raise ImageError("it holds floating-point numbers, whose range is unknown; save it as 8 or 16 bits")
    if picture.mode.startswith("I"):
        return convert(tiff.to_8_bits(picture, largest), channels)
    mode = "RGBA" if picture.has_transparency_data else "L" if picture.mode in ("1", "L") else "RGB"
    return convert(np.atleast_3d(np.array(picture.convert(mode))), channels)


def convert(image: Uint8, channels: int | None) -> Uint8:
    """1, 3 or 4 channels to `channels`; None: as they are."""
    if channels is None or channels == image.shape[2]:
        return image
    if channels not in (1, 3, 4):
        raise ImageError(f"it has {image.shape[2]} channels, not {channels}; only .npy files have {channels}")
    if image.shape[2] == 4:
        image = _over_white(image)
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
    if channels == 1:
        return np.array(Image.fromarray(image).convert("L"))[..., None]
    if channels == 4:
        return np.concatenate([image, np.full_like(image[..., :1], 255)], axis=2)
    return image


def _over_white(image: Uint8) -> Uint8:
    alpha = image[..., 3:].astype(np.uint16)
    return ((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _orientation(picture: Image.Image) -> int:
    if picture.format == "PNG" and not {"exif", "Raw profile type exif", "xmp"} & picture.info.keys():
        return 1  # Pillow would decode the whole file in search of a chunk after the pixels
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF, of which cameras write many kinds, leaves a good picture
        return 1
