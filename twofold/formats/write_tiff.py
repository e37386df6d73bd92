"""Pixels of any type to TIFF files: Deflate, with resolution, colour profile and EXIF."""

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO

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
    colours = channels - has_alpha
    rgb = colours in (3, 4) and (pixels.dtype in (np.uint8, np.uint16) or has_alpha)
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
    made = BytesIO()
    tifffile.imwrite(
        made,
        pixels if channels > 1 else pixels[..., 0],
        byteorder="<",
        bigtiff=pixels.nbytes > 2**31,
        compression="adobe_deflate",
        predictor=pixels.dtype.kind != "f" and not palette,
        iccprofile=metadata.icc or None,
        metadata=None,
        software=False,
        extratags=tags,
        **how,
    )
    for part, directory in parts.items():
        _append(made, part, directory)
    file.write(made.getbuffer())


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


def _append(made: BytesIO, part: ExifTags.IFD, directory: TiffImagePlugin.ImageFileDirectory_v2) -> None:
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
