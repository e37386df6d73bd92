"""Pictures of over 8 bits that Pillow would reduce: PNG and JPEG 2000 in colour, AVIF, PNM. Decoded by imagecodecs."""

import re
import struct
from typing import Any, BinaryIO, NamedTuple

import imagecodecs
import numpy as np
from PIL.ImageFile import ImageFile

from twofold.formats.contract import Pixels
from twofold.formats.facts import ImageError, check_size

_PNG_CHANNELS = {"LA;16B": 2, "RGB;16B": 3, "RGBA;16B": 4}
_PNM = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\n\r]*[\n\r])+([0-9]{1,9})" + rb"\s")
_SIZ = b"\xff\x4f\xff\x51"


class Depth(NamedTuple):
    """What a header says of a picture of over 8 bits."""

    bits: int
    channels: int
    """As stored: 2 is grey with alpha."""


def depth_of(picture: ImageFile, file: BinaryIO) -> Depth | None:
    """The depth of a picture that Pillow would reduce to 8 bits or scale; None for all others."""
    match picture.format:
        case "PNG":
            mode = str(picture.tile[0][3]) if picture.tile else ""
            # one transparent colour becomes alpha
            transparent = mode == "RGB;16B" and "transparency" in picture.info
            return Depth(16, _PNG_CHANNELS[mode] + transparent) if mode in _PNG_CHANNELS else None
        case "PPM":
            return _depth_of_pnm(_start(file, 4096))
        case "JPEG2000":
            return _depth_of_jpeg2000(_start(file))
        case "AVIF":
            return _depth_of_avif(_start(file), picture)
    return None


def read(picture: ImageFile, file: BinaryIO, depth: Depth) -> Pixels:
    """The pixels of a picture that has a `Depth`, not yet turned, (H, W, C); grey with alpha as 4 channels."""
    width, height = picture.size
    check_size(width, height, depth.channels, 2)
    content = _start(file)
    if picture.format == "PPM":
        pixels = _read_pnm(content, width, height, depth)
    else:
        decode: Any = {
            "PNG": imagecodecs.png_decode,
            "JPEG2000": imagecodecs.jpeg2k_decode,
            "AVIF": lambda content: imagecodecs.avif_decode(content, index=0),
        }[str(picture.format)]
        pixels = np.atleast_3d(decode(content))
    if pixels.shape != (height, width, depth.channels) or pixels.dtype != np.uint16:
        raise ImageError("damaged (its header does not agree with its pixels); remove it or replace it")
    if pixels.shape[2] == 2:
        pixels = np.concatenate([pixels[..., :1].repeat(3, axis=2), pixels[..., 1:]], axis=2)
    return pixels


def _start(file: BinaryIO, size: int = -1) -> bytes:
    """The content of a file, whose place stays as it was."""
    place = file.tell()
    file.seek(0)
    content = file.read(size)
    file.seek(place)
    return content


# ---- PNM


def _depth_of_pnm(content: bytes) -> Depth | None:
    header = _PNM.match(content)
    if header is None or (most := int(header[4])) <= 255:
        return None
    return Depth(most.bit_length(), 3 if header[1] in b"36" else 1)


def _read_pnm(content: bytes, width: int, height: int, depth: Depth) -> Pixels:
    header = _PNM.match(content)
    assert header
    count, rest = width * height * depth.channels, content[header.end() :]
    if header[1] in b"56":
        values = np.frombuffer(rest, ">u2", count).astype(np.uint16)
    else:
        values = np.array(rest.split(None, count)[:count], np.uint32).astype(np.uint16)
    return values.reshape(height, width, depth.channels)


# ---- JPEG 2000 (ISO 15444-1, A.5.1), AVIF (AV1-ISOBMFF 2.3.3)


def _depth_of_jpeg2000(content: bytes) -> Depth | None:
    place = content.find(_SIZ)
    if place < 0:
        raise ImageError("damaged (it holds no codestream); remove it or replace it")
    width, height, channels = codestream_size(content[place:])
    check_size(width, height, channels, 2)  # those of the container may be others
    parts = [content[place + 42 + 3 * i :][:3] for i in range(min(channels, 5))]
    bits = {(part[0] & 127) + 1 for part in parts}
    if max(bits) <= 8 and not any(part[0] & 128 for part in parts):
        return None
    if len(set(parts)) > 1 or channels > 4 or parts[0][1:] != b"\1\1" or parts[0][0] > 15:
        raise ImageError("its channels are signed, of unequal or over 16 bits, or over 4; convert it to TIFF")
    return Depth(max(bits), channels)


def codestream_size(content: bytes) -> tuple[int, int, int]:
    """Width, height and channels of a JPEG 2000 codestream; zeros if `content` does not begin with one."""
    if not content.startswith(_SIZ) or len(content) < 42:
        return 0, 0, 0
    right, bottom, left, top, *_, channels = struct.unpack_from(">8IH", content, 8)
    return right - left, bottom - top, channels


def _depth_of_avif(content: bytes, picture: ImageFile) -> Depth | None:
    flags = [content[found.end() + 2] for found in re.finditer(rb"av1C(?=...)", content, re.DOTALL)]
    bits = max(((12 if flag & 32 else 10) if flag & 64 else 8 for flag in flags), default=8)
    if bits == 8:
        return None
    grey = bool(flags[0] & 16)
    return Depth(bits, (1 if grey else 3) + picture.has_transparency_data)


# ---- what is not read

_REFUSED = {
    rb"....ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)": "HEIC; convert it: magick FILE.heic FILE.png",
    rb"\0\0\0\x0cJXL |\xff\x0a": "JPEG XL; convert it: djxl FILE.jxl FILE.png",
    rb"\xff\xd8\xff": "a JPEG that is damaged or has over 8 bits; replace it, or convert it to 16-bit PNG",
    rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ": "JPEG 2000, damaged or of over 4 channels; convert it to TIFF",
    rb"\x76\x2f\x31\x01|#\?RADIANCE": "a high dynamic range picture; convert it to a float32 TIFF",
}
"""How files begin that no decoder here takes, and what to do with them."""


def refuse_by_name(file: BinaryIO) -> None:
    """Raise ImageError for a known format that is not read, with the way to convert it."""
    content = _start(file, 16)
    for beginning, what in _REFUSED.items():
        if re.match(beginning, content, re.DOTALL):
            raise ImageError(f"it is {what}")
