"""Everything that Pillow reads at its depth: JPEG, PNG, WebP, BMP, AVIF, GIF, JPEG 2000, PNM, TGA, and plain TIFF."""

import struct
from contextlib import suppress
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from twofold.formats import deep, metadata, npy
from twofold.formats.contract import Pixels
from twofold.formats.facts import Facts, bits_of, check_size
from twofold.formats.stored import Stored

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "GIF", "JPEG2000", "PPM")
"""What a file may turn out to be, whatever its name says. Pillow's rarer decoders stay closed."""

_TURNS = {  # EXIF 2.3, orientation: where row 0 and column 0 of what is stored belong
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def read(file: BinaryIO, suffix: str, indices: bool) -> Stored:
    """The first frame, upright.

    Args:
        suffix: of the file's name: TGA files cannot be recognised by their content.
        indices: give an indexed picture as its indices, (H, W, 1).
    """
    with open_picture(file, suffix) as picture:
        depth = deep.depth_of(picture, file)
        if depth is None:
            if isinstance(picture, TiffImagePlugin.TiffImageFile):
                # Reserve the pixels, whose number was checked, before Pillow does it with a lower limit of its own.
                picture.im = Image.core.new(picture.mode, picture._tile_size)
            return of_picture(picture, indices)
        facts = _facts(picture, depth)
        pixels = deep.read(picture, file, depth)
        return Stored(upright(pixels, metadata.orientation(picture)), facts, metadata.of_picture(picture))


def inspect(file: BinaryIO, suffix: str) -> Facts:
    """What the header says."""
    with open_picture(file, suffix) as picture:
        return _facts(picture, deep.depth_of(picture, file))


def open_picture(file: BinaryIO, suffix: str = "") -> ImageFile:
    """Open a file as `PIL.Image.open` does, but without its limit of pixels, which holds for the whole process.

    Raises:
        UnidentifiedImageError: the file is in none of `FORMATS`.
        ImageError: it has no pixels, or more than `facts.MAX_PIXELS`.
    """
    prefix = file.read(16)
    for name in (*FORMATS, "TGA") if suffix == ".tga" else FORMATS:
        if _accepts(name, prefix):
            factory, _ = Image.OPEN[name]
            file.seek(0)
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # not this format after all
                picture = factory(file, "")
                check_size(*picture.size, 4)
                return picture
    deep.refuse_by_name(file)
    raise UnidentifiedImageError


def is_picture(prefix: bytes) -> bool:
    """Whether a file that begins with these 16 bytes is in one of `FORMATS`."""
    return any(_accepts(name, prefix) for name in FORMATS)


def _accepts(name: str, prefix: bytes) -> bool:
    if name not in Image.OPEN:
        Image.init()
    accepts = Image.OPEN[name][1]
    return accepts is None or accepts(prefix) is True


def of_picture(picture: Image.Image, indices: bool = False) -> Stored:
    """A Pillow picture, upright."""
    check_size(*picture.size, 4)
    facts = _facts(picture, None)
    picture.load()
    if indices and facts.palette:
        facts, pixels = facts._replace(channels=1, alpha=False), _array(picture)[..., :1]
    else:
        pixels = _pixels(picture)
    pixels = upright(pixels, metadata.orientation(picture))
    height, width, _ = pixels.shape  # a PNG file may hold its orientation behind the pixels
    return Stored(pixels, facts._replace(width=width, height=height), metadata.of_picture(picture))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Stored pixels (H, W, C) turned and mirrored as an EXIF orientation of 1 to 8 says."""
    turn = _TURNS.get(orientation)
    return np.ascontiguousarray(turn(pixels)) if turn else pixels


def _facts(picture: Image.Image, depth: deep.Depth | None) -> Facts:
    width, height = picture.size
    # Pillow's size of a TIFF is already the rotated one.
    if picture.format != "TIFF" and metadata.orientation(picture) >= 5:
        width, height = height, width
    frames, palette = getattr(picture, "n_frames", 1), _palette(picture)
    if depth:
        grey, alpha = depth.channels <= 2, depth.channels in (2, 4)
        channels = 4 if alpha else depth.channels
        check_size(width, height, channels, 2)
        return Facts(width, height, channels, grey, "uint16", depth.bits, alpha, frames)
    wide = {"I": "int32", "F": "float32"}.get(picture.mode, "uint16" if picture.mode.startswith("I") else "")
    if wide:
        return Facts(width, height, 1, True, wide, bits_of(wide), False, frames)
    grey = picture.mode in ("1", "L", "LA", "La")
    alpha = picture.has_transparency_data
    channels = 4 if alpha else 1 if grey else 3
    return Facts(width, height, channels, grey, "uint8", 8, alpha, frames, palette)


def _pixels(picture: Image.Image) -> Pixels:
    """The pixels of a loaded picture as they lie, (H, W, C)."""
    if picture.mode == "F":
        return npy.to_pixels(_array(picture), "float32")
    if picture.mode.startswith("I"):
        return np.array(picture, np.int32 if picture.mode == "I" else np.uint16)[..., None]
    mode = "RGBA" if picture.has_transparency_data else "L" if picture.mode in ("1", "L") else "RGB"
    as_it_is = picture.mode == mode and "transparency" not in picture.info
    return _array(picture if as_it_is else picture.convert(mode))


def _array(picture: Image.Image) -> Pixels:
    array = np.array(picture)
    return array[..., None] if array.ndim == 2 else array


def _palette(picture: Image.Image) -> tuple[tuple[int, int, int], ...]:
    if picture.mode not in ("P", "PA") or picture.palette is None:
        return ()
    values = picture.getpalette("RGB") or []
    return tuple((values[i], values[i + 1], values[i + 2]) for i in range(0, len(values) - 2, 3))
