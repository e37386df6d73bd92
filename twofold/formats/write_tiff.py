"""Pixels of any type to TIFF files: Deflate, with resolution, colour profile and EXIF."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import ExifTags, Image, TiffImagePlugin

from twofold.formats.contract import Pixels
from twofold.formats.metadata import KEPT, Metadata

_PARTS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)


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
    rgb = pixels.dtype in (np.uint8, np.uint16) and colours in (3, 4)
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
    exif = Image.Exif()
    exif.load(metadata.exif)
    directories = {part: found for part in _PARTS if (found := exif.get_ifd(part))}
    tags = [(int(tag), "s", 0, str(exif[tag]), True) for tag in KEPT if tag in exif]
    tags += [(int(part), "I", 1, 0, True) for part in directories]
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
    for part, found in directories.items():
        _append_directory(made, int(part), found)
    file.write(made.getbuffer())


def _append_directory(made: BytesIO, tag: int, values: dict[int, Any]) -> None:
    """Write an EXIF directory to the end of the file and its place into `tag` of the first page."""
    place = made.seek(0, 2)
    place += made.write(bytes(place % 2))
    directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0", group=tag)
    for number, value in values.items():
        directory[number] = value
    made.write(directory.tobytes(place))
    with tifffile.TiffFile(made, mode="r+") as tiff:
        tiff.pages.first.tags[tag].overwrite(place)
