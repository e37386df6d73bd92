"""Pixels of any type to TIFF files: Deflate, with resolution, colour profile and EXIF."""

import struct
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile
from PIL import ExifTags, Image, TiffImagePlugin

from twofold.formats.contract import Pixels
from twofold.formats.metadata import KEPT, Metadata, directories

_PLACES = {ExifTags.IFD.Exif: 34664, ExifTags.IFD.GPSInfo: 34852}
"""For each EXIF directory the number of an unused tag that keeps its place free, as tifffile does not write it itself."""


def write(
    pixels: Pixels,
    file: BinaryIO,
    metadata: Metadata,
    has_alpha: bool,
    palette: Sequence[tuple[int, int, int]],
) -> None:
    """Save (H, W, C), whose last channel may be alpha.

    Args:
        palette: the colour of each value of a uint8 image of one channel; empty for values that are no indices.
    """
    channels = pixels.shape[2]
    how, parts = _how(pixels.dtype, channels, metadata, has_alpha, palette)
    made = BytesIO()
    tifffile.imwrite(
        made, pixels if channels > 1 else pixels[..., 0], bigtiff=pixels.nbytes > 2**31, metadata=None, **how
    )
    for part, directory in parts.items():
        _append(made, part, directory)
    file.write(made.getbuffer())


def encoded_tile(pixels: Pixels, side: int, palette: bool) -> bytes:
    """Pixels (h, w, C) as a compressed tile of side² pixels, for `write_tiles`; what is missing is filled with the edge."""
    height, width, channels = pixels.shape
    full = np.pad(pixels, ((0, side - height), (0, side - width), (0, 0)), "edge")
    values = np.ascontiguousarray(full if channels > 1 else full[..., 0], full.dtype.newbyteorder("<"))
    if _predicted(values.dtype, palette):
        values = imagecodecs.delta_encode(values, axis=1)
    return bytes(imagecodecs.zlib_encode(values.tobytes(), level=6))


def write_tiles(
    tiles: Iterator[bytes],
    path: Path,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    side: int,
    metadata: Metadata,
    has_alpha: bool,
    palette: Sequence[tuple[int, int, int]],
) -> None:
    """Write a file of (H, W, C) from the results of `encoded_tile`, row by row; a BigTIFF where it may exceed 4 GiB.

    Args:
        side: of the tiles in pixels, a multiple of 16.
    """
    how, parts = _how(dtype, shape[2], metadata, has_alpha, palette)
    size = int(np.prod(shape)) * dtype.itemsize
    with path.open("w+b") as file:
        tifffile.imwrite(
            file,
            tiles,
            shape=shape if shape[2] > 1 else shape[:2],
            dtype=dtype,
            tile=(side, side),
            bigtiff=size > 2**31,
            metadata=None,
            **how,
        )
        for part, directory in parts.items():
            _append(file, part, directory)


def _predicted(dtype: np.dtype[Any], palette: object) -> bool:
    """Whether differences of neighbours are stored, which compress better."""
    return dtype.kind != "f" and not palette


def _how(
    dtype: np.dtype[Any],
    channels: int,
    metadata: Metadata,
    has_alpha: bool,
    palette: Sequence[tuple[int, int, int]],
) -> tuple[dict[str, Any], dict[ExifTags.IFD, TiffImagePlugin.ImageFileDirectory_v2]]:
    """The options of tifffile, and the EXIF directories to append."""
    colours = channels - has_alpha
    rgb = colours in (3, 4) and (dtype in (np.uint8, np.uint16) or has_alpha)
    extra = channels - (3 if rgb else 1)
    how: dict[str, Any] = {"photometric": "rgb" if rgb else "minisblack"}
    if palette:
        table = np.zeros((3, 256), np.uint16)
        table[:, : len(palette)] = np.array(palette[:256], np.uint16).T * 257
        how = {"photometric": "palette", "colormap": table}
    elif channels > 1:
        how["planarconfig"] = "contig"
    if extra:
        how["extrasamples"] = ["unspecified"] * (extra - has_alpha) + ["unassalpha"] * has_alpha
    if metadata.dpi:
        how |= {"resolution": metadata.dpi, "resolutionunit": "inch"}
    tags, parts = _exif(metadata.exif)
    how |= {
        "byteorder": "<",
        "compression": "adobe_deflate",
        "predictor": _predicted(dtype, palette),
        "iccprofile": metadata.icc or None,
        "software": False,
        "extratags": tags,
    }
    return how, parts


def _exif(
    block: bytes,
) -> tuple[list[tuple[Any, ...]], dict[ExifTags.IFD, TiffImagePlugin.ImageFileDirectory_v2]]:
    """The tags that describe the picture, with the places of its EXIF directories, and these; nothing if it is broken."""
    try:
        exif, parts = Image.Exif(), {}
        exif.load(block)
        for part, values in directories(exif).items():
            parts[part] = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0", group=part)
            for number, value in values.items():
                parts[part][number] = value
            parts[part].tobytes(0)
        texts = {int(tag): str(exif[tag]).encode("latin-1", "replace") for tag in KEPT if tag in exif}
        tags: list[tuple[Any, ...]] = [(tag, "s", 0, text, True) for tag, text in texts.items()]
    except Exception:  # cameras write many kinds of broken EXIF
        return [], {}
    return tags + [(_PLACES[part], "I", 1, 0, True) for part in parts], parts


def _append(made: BinaryIO, part: ExifTags.IFD, directory: TiffImagePlugin.ImageFileDirectory_v2) -> None:
    """Write an EXIF directory to the end of the file, and where it is into the tag that keeps its place."""
    start = made.seek(0, 2)
    start += made.write(bytes(start % 2))
    made.write(directory.tobytes(start))
    made.seek(0)
    with tifffile.TiffFile(made) as tiff:
        tag: Any = tiff.pages.first.tags[_PLACES[part]]  # pyright: ignore[reportAttributeAccessIssue]
        entry = struct.pack("<HHQQ" if tiff.is_bigtiff else "<HHII", part, 4, 1, start)
    made.seek(tag.offset)
    made.write(entry)
