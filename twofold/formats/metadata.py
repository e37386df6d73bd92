"""Resolution, EXIF and colour profile: what a picture carries besides its pixels."""

import struct
from functools import cache
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

from PIL import ExifTags, Image, ImageCms

ORIENTATION = 0x0112

KEPT = (
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
    ExifTags.Base.HostComputer,
)
"""The tags of a TIFF file that describe the picture and not the way it is stored."""


class Metadata(NamedTuple):
    """What a picture carries besides its pixels.

    Attributes:
        dpi: dots per inch, horizontal and vertical.
        exif: a block as JPEG files hold it, with the orientation reset to 1; empty if there is none.
        icc: the colour profile; empty if there is none.
    """

    dpi: tuple[float, float] | None = None
    exif: bytes = b""
    icc: bytes = b""


@cache
def srgb_profile() -> bytes:
    """The profile of sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]  # without the time, so that equal images give equal files


def is_srgb(icc: bytes) -> bool:
    """Whether a profile is that of sRGB, by its description."""
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(icc)))
    return "srgb" in name.casefold().replace(" ", "")


def of_picture(picture: Image.Image) -> Metadata:
    """The metadata of a loaded Pillow picture; what is broken in them is left out."""
    dpi = checked_dpi(picture.info.get("dpi"))
    if dpi and picture.format in ("PNG", "BMP"):  # they count whole pixels per metre
        dpi = (_whole(dpi[0]), _whole(dpi[1]))
    return Metadata(dpi, _exif(picture), _icc(picture))


def _whole(dpi: float) -> float:
    return float(round(dpi)) if abs(dpi - round(dpi)) < 0.0128 else dpi


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none."""
    if picture.format == "PNG" and not {"exif", "Raw profile type exif", "xmp"} & picture.info.keys():
        return 1  # Pillow would decode the whole file in search of a chunk after the pixels
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # broken EXIF, of which cameras write many kinds, leaves a good picture
        return 1


def checked_dpi(found: Any) -> tuple[float, float] | None:
    """Two positive numbers of a usual size, else None."""
    try:
        across, down = (float(value) for value in found)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < 1e8 and 0 < down < 1e8 else None


def _exif(picture: Image.Image) -> bytes:
    try:
        block = picture.info["exif"]
        return checked_exif(reset_orientation(b"Exif\0\0" + block.removeprefix(b"Exif\0\0")))
    except Exception:  # there is none, or as in `orientation`
        return b""


def checked_exif(block: bytes) -> bytes:
    """An EXIF block, or nothing if it cannot be read."""
    try:
        exif = Image.Exif()
        exif.load(block)
        directories(exif)
    except Exception:  # as in `orientation`
        return b""
    return block


def reset_orientation(block: bytes) -> bytes:
    """An EXIF block with the orientation of its first directory set to 1; all other bytes as they are."""
    order = "<" if block[6:8] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", block, 10)
    (count,) = struct.unpack_from(f"{order}H", block, 6 + start)
    for place in range(8 + start, 8 + start + 12 * count, 12):
        if struct.unpack_from(f"{order}H", block, place)[0] == ORIENTATION:
            return block[: place + 8] + struct.pack(f"{order}HH", 1, 0) + block[place + 12 :]
    return block


def _icc(picture: Image.Image) -> bytes:
    """The profile, if it is one of the colour space that the pixels are read in."""
    icc = picture.info.get("icc_profile") or b""
    spaces = (b"GRAY",) if picture.mode in ("1", "L", "LA", "I;16", "I") else (b"RGB ",)
    return icc if isinstance(icc, bytes) and icc[16:20] in spaces else b""


def of_tiff(file: BinaryIO, directory: int) -> bytes:
    """The EXIF block of a TIFF file: camera, dates, authors and place, without the tags of the way it is stored.

    Args:
        directory: the offset of the first page's tags in the file.
    """
    try:
        file.seek(0)
        head = file.read(4)
        source, kept = Image.Exif(), Image.Exif()
        source.endian, source.bigtiff = "<" if head[:2] == b"II" else ">", 43 in head[2:]
        source.load_from_fp(file, directory)
        for tag in KEPT:
            if tag in source:
                kept[tag] = source[tag]
        for part, values in directories(source).items():
            kept[int(part)] = values
        return kept.tobytes() if len(kept) else b""
    except Exception:  # as in `orientation`
        return b""


def directories(exif: Image.Exif) -> dict[ExifTags.IFD, dict[int, Any]]:
    """The directories of exposure and of place that an EXIF block has, without what points into its old file."""
    found = {part: dict(exif.get_ifd(part)) for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)}
    for values in found.values():
        values.pop(ExifTags.IFD.Interop, None)
    return {part: values for part, values in found.items() if values}
