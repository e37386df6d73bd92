"""Pixels of any type to TIFF files: Deflate, with resolution, colour profile and EXIF."""

import math
import struct
from collections.abc import Iterator, Sequence
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
    file: BinaryIO,
    data: Pixels | Iterator[bytes],
    shape: Sequence[int],
    dtype: np.dtype[Any],
    metadata: Metadata,
    has_alpha: bool,
    palette: Sequence[tuple[int, int, int]],
    tile: tuple[int, int] | None = None,
) -> None:
    """Save (H, W, C), whose last channel may be alpha; as a BigTIFF where it may exceed 4 GiB.

    Args:
        file: open for reading and writing.
        data: the pixels, or the results of `encoded_tile`, row by row.
        palette: the colour of each value of a uint8 image of one channel; empty for values that are no indices.
        tile: height and width in pixels of the encoded tiles, multiples of 16.
    """
    tags, directories = _exif(metadata.exif)
    tifffile.imwrite(
        file,
        data,
        shape=tuple(shape if shape[2] > 1 else shape[:2]),
        dtype=dtype,
        tile=tile,
        bigtiff=math.prod(shape) * dtype.itemsize > 2**31,
        byteorder="<",
        compression="adobe_deflate",
        predictor=_predicted(dtype, palette),
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        iccprofile=metadata.icc or None,
        software=False,
        ome=False,  # a name such as x.ome.tif would add a description with a random id and without the resolution
        metadata=None,
        extratags=tags,
        **_layout(dtype, shape[2], has_alpha, palette),
    )
    for part, directory in directories.items():
        _append(file, part, directory)


def encoded_tile(pixels: Pixels, side: int, palette: bool) -> bytes:
    """Pixels (h, w, C) as a compressed tile of side² pixels, for `write`; what is missing is filled with the edge."""
    height, width, channels = pixels.shape
    full = np.pad(pixels, ((0, side - height), (0, side - width), (0, 0)), "edge")
    values = np.ascontiguousarray(full if channels > 1 else full[..., 0], full.dtype.newbyteorder("<"))
    if _predicted(values.dtype, palette):
        values = imagecodecs.delta_encode(values, axis=1)
    return bytes(imagecodecs.zlib_encode(values.tobytes(), level=6))


def _predicted(dtype: np.dtype[Any], palette: object) -> bool:
    """Whether differences of neighbours are stored, which compress better."""
    return dtype.kind != "f" and not palette


def _layout(
    dtype: np.dtype[Any], channels: int, has_alpha: bool, palette: Sequence[tuple[int, int, int]]
) -> dict[str, Any]:
    """The options of tifffile that say what the channels are."""
    if palette:
        table = np.zeros((3, 256), np.uint16)
        table[:, : len(palette)] = np.array(palette[:256], np.uint16).T * 257
        return {"photometric": "palette", "colormap": table}
    colours = channels - has_alpha
    rgb = colours in (3, 4) and (dtype in (np.uint8, np.uint16) or has_alpha)
    how: dict[str, Any] = {"photometric": "rgb" if rgb else "minisblack"}
    if channels > 1:
        how["planarconfig"] = "contig"
    if extra := channels - (3 if rgb else 1):
        how["extrasamples"] = ["unspecified"] * (extra - has_alpha) + ["unassalpha"] * has_alpha
    return how


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
