"""Pixels of any type to files."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL import Image

from twofold.errors import UsageError
from twofold.files import replacing
from twofold.formats.contract import DTYPES, Pixels
from twofold.formats.facts import ImageError
from twofold.formats.metadata import Metadata, checked_exif
from twofold.formats.stored import highest

_Kinds = Mapping[str, Sequence[int]]
"""The channels that a format holds, for each type of values."""

_ANY = dict.fromkeys(DTYPES, range(1, 2**16))
_PLAIN, _BYTES, _WORDS = {"uint8": (1, 3)}, {"uint8": (1, 3, 4)}, {"uint8": (1, 3, 4), "uint16": (1, 3, 4)}

HELD: dict[str, _Kinds] = {
    ".png": _WORDS,
    **dict.fromkeys((".jpg", ".jpeg", ".jfif", ".bmp"), _PLAIN),
    **dict.fromkeys((".webp", ".avif", ".tga"), _BYTES),
    **dict.fromkeys((".jp2", ".j2k"), _WORDS),
    **dict.fromkeys((".tif", ".tiff", ".npy", ".npz"), _ANY),
    ".ppm": {"uint8": (3,), "uint16": (3,)},
    ".pgm": {"uint8": (1,), "uint16": (1,)},
    ".pnm": {"uint8": (1, 3), "uint16": (1, 3)},
}

_JPEG = {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"}
_PILLOW: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    **dict.fromkeys((".jpg", ".jpeg", ".jfif"), _JPEG),
    ".webp": {"format": "WEBP", "quality": 90},
    ".avif": {"format": "AVIF", "quality": 90},
    ".bmp": {"format": "BMP"},
    ".tga": {"format": "TGA"},
}
_LONGEST_JPEG_EXIF = 65_000
"""Bytes; a JPEG file holds no longer block."""


def holds(suffix: str, dtype: str, channels: int) -> bool:
    """Whether `write` can save so many channels of this type in the format that the suffix names."""
    return channels in HELD.get(suffix.lower(), {}).get(dtype, ())


def best_suffix(dtype: str, channels: int, source_suffix: str = "") -> str:
    """.png if PNG holds it, else the suffix of the source file if its format can, else .tif."""
    return next(
        suffix for suffix in (".png", source_suffix.lower(), ".tif") if holds(suffix, dtype, channels)
    )


def write(
    pixels: Pixels,
    path: Path | str,
    metadata: Metadata = Metadata(),  # noqa: B008 - immutable
    *,
    alpha: Pixels | None = None,
    palette: Sequence[tuple[int, int, int]] = (),
    quality: int | None = None,
) -> None:
    """Save (H, W, C) in the format that the suffix names. The file appears whole or not at all; its folder is created.

    Args:
        metadata: is written as far as the format holds it.
        alpha: (H, W, 1) of any type, put beside 1 or 3 channels where the format holds it.
        palette: the colour of each value of a uint8 image of one channel; PNG, BMP and TIFF hold it.
        quality: 1 to 100 for JPEG, WebP and AVIF; default 95 for JPEG, 90 for the others.

    Raises:
        UsageError: the suffix is unknown, or its format cannot hold this type or so many channels.
        ImageError: the disk or the encoder failed.
    """
    path = Path(path)
    _check_format(pixels, path)
    try:
        with replacing(path) as aside, aside.open("w+b") as file:
            encode(pixels, file, path, metadata, alpha=alpha, palette=palette, quality=quality)
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def encode(
    pixels: Pixels,
    file: BinaryIO,
    path: Path,
    metadata: Metadata = Metadata(),  # noqa: B008 - immutable
    *,
    alpha: Pixels | None = None,
    palette: Sequence[tuple[int, int, int]] = (),
    quality: int | None = None,
    png_level: int = 6,
) -> None:
    """Write (H, W, C) to a file, open for reading and writing, in the format that the suffix of `path` names.

    Args:
        metadata, alpha, palette, quality: as of `write`.
        png_level: 1 to 9: how much time the compression of PNG may take. 1 takes a sixth of 6 for a sixth more bytes.

    Raises:
        UsageError: as of `write`.
        OSError, ValueError, RuntimeError: the disk or the encoder failed.
    """
    _check_format(pixels, path)
    suffix = path.suffix.lower()
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    pixels, has_alpha = with_alpha(pixels, alpha, suffix)
    palette = palette if pixels.dtype == np.uint8 and pixels.shape[2] == 1 else ()
    icc = metadata.icc if _fits(metadata.icc, suffix, pixels.shape[2] - has_alpha) else b""
    metadata = metadata._replace(exif=checked_exif(metadata.exif), icc=icc)
    match suffix:
        case ".npy":
            np.save(file, _flat(pixels), allow_pickle=False)
        case ".npz":
            np.savez_compressed(file, _flat(pixels))
        case ".tif" | ".tiff":
            from twofold.formats import write_tiff  # its packages take a tenth of a second to import

            write_tiff.write(file, _flat(pixels), pixels.shape, pixels.dtype, metadata, has_alpha, palette)
        case ".ppm" | ".pgm" | ".pnm":
            _write_pnm(pixels, file)
        case ".jp2" | ".j2k":
            file.write(
                imagecodecs.jpeg2k_encode(_flat(pixels), level=0, reversible=True, codecformat=suffix[1:])
            )
        case ".png" if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
            file.write(_with_chunks(bytes(imagecodecs.png_encode(pixels, png_level)), metadata))
        case _:
            options = {**_PILLOW[suffix], "compress_level": png_level}
            if quality is not None:
                options["quality"] = quality
            _write_picture(pixels, file, metadata, palette, options)


def _check_format(pixels: Pixels, path: Path) -> None:
    """Raise UsageError where the format that the path names cannot hold the pixels."""
    suffix, dtype, channels = path.suffix.lower(), pixels.dtype.name, pixels.shape[2]
    if suffix not in HELD:
        raise UsageError(f"cannot write {path}: end its name with {', '.join(sorted(HELD))}")
    if not holds(suffix, dtype, channels):
        if not holds(".npy", dtype, channels):
            raise UsageError(f"cannot write {path}: no format holds {dtype}; use {', '.join(DTYPES)}")
        raise UsageError(
            f"cannot write {path}: {suffix} does not hold {dtype} with {channels} "
            f"channel{'s' * (channels > 1)}; use {best_suffix(dtype, channels)} or .npy"
        )


def _fits(icc: bytes, suffix: str, channels: int) -> bool:
    """Whether a profile is one of the colours that the file will hold."""
    space = b"GRAY" if channels == 1 and suffix != ".webp" else b"RGB "
    return icc[16:20] == space and channels in (1, 3, 4)


def with_alpha(pixels: Pixels, alpha: Pixels | None, suffix: str) -> tuple[Pixels, bool]:
    """The pixels with alpha as their last channel, where the format has room for it."""
    if alpha is None or pixels.shape[2] not in (1, 3):
        return pixels, False
    both = suffix in (".png", ".tif", ".tiff")
    if not both and (suffix in (".npy", ".npz") or not holds(suffix, pixels.dtype.name, 4)):
        return pixels, False
    top, source_top = (highest(each.dtype, each.dtype.itemsize * 8) for each in (pixels, alpha))
    if alpha.dtype != pixels.dtype:
        scaled = alpha.astype(np.float64) * (top / source_top)
        alpha = (scaled if pixels.dtype.kind == "f" else np.rint(scaled)).astype(pixels.dtype)
    colours = pixels if both else pixels.repeat(3 // pixels.shape[2], axis=2)
    return np.concatenate([colours, alpha], axis=2), True


def _flat(pixels: Pixels) -> Pixels:
    """One channel as (H, W)."""
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _write_pnm(pixels: Pixels, file: BinaryIO) -> None:
    height, width, channels = pixels.shape
    most = np.iinfo(pixels.dtype).max
    file.write(b"P%d\n%d %d\n%d\n" % (6 if channels == 3 else 5, width, height, most))
    file.write(pixels.astype(pixels.dtype.newbyteorder(">")).tobytes())


def _write_picture(
    pixels: Pixels,
    file: BinaryIO,
    metadata: Metadata,
    palette: Sequence[tuple[int, int, int]],
    options: dict[str, Any],
) -> None:
    picture = Image.fromarray(_flat(pixels))
    if palette and options["format"] in ("PNG", "BMP"):
        picture.putpalette([part for colour in palette for part in colour])
    if metadata.dpi and (options["format"] != "JPEG" or max(metadata.dpi) < 2**16):  # JPEG has 16 bits for it
        options["dpi"] = metadata.dpi
    if metadata.exif and (options["format"] != "JPEG" or len(metadata.exif) <= _LONGEST_JPEG_EXIF):
        options["exif"] = metadata.exif
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    picture.save(file, **options)


def _with_chunks(png: bytes, metadata: Metadata) -> bytes:
    """A PNG file with the chunks of its metadata behind the header."""
    chunks = b""
    if metadata.icc:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        across, down = (round(value / 0.0254) for value in metadata.dpi)
        chunks += _chunk(b"pHYs", struct.pack(">IIB", across, down, 1))
    if metadata.exif:
        chunks += _chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    header = 8 + 25  # the signature and IHDR
    return png[:header] + chunks + png[header:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
