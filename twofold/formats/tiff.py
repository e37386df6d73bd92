"""TIFF files: integers and floats of any depth, any number of bands, read by tifffile with imagecodecs.

Kinds that only Pillow converts to RGB (palettes, CMYK, YCbCr without JPEG, Lab, under 8 bits) go through it.
"""

import logging
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile
from PIL import UnidentifiedImageError

from twofold.formats import metadata, npy, pictures
from twofold.formats.contract import Pixels
from twofold.formats.deep import codestream_size
from twofold.formats.facts import Facts, ImageError, bits_of, check_size
from twofold.formats.metadata import Metadata
from twofold.formats.stored import Stored, highest

_GREY, _COLOURS = (0, 1), {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Photometric interpretations: MinIsWhite and MinIsBlack; the samples of each that are not extra ones."""

_ASSOCIATED, _UNASSOCIATED = 1, 2
_OLD_JPEG = 6
_JPEG = (_OLD_JPEG, 7, 34892)
_JPEG_COLOURS = {0: 1, 1: 1, 2: 3, 6: 3}
"""Photometric interpretations, and their samples, of JPEG parts that tifffile decodes to grey or RGB."""
_END_OF_JPEG = b"\xff\xd9"
_JPEG_2000 = (33003, 33004, 33005, 34712)

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it writes to the terminal


class _Kind(NamedTuple):
    """How the samples of a page are stored."""

    bits: int
    samples: int
    alpha: bool
    premultiplied: bool
    by_pillow: bool


def read(file: BinaryIO, suffix: str, indices: bool) -> Stored:
    """The first page, upright, (H, W, C)."""
    with _first_page(file) as (page, frames):
        kind = _kind(page)
        if not kind.by_pillow:
            facts = _facts(page, kind, frames)
            _check_segments(page)
            if int(page.compression) in _JPEG + _JPEG_2000:
                for index in range(len(page.dataoffsets)):
                    _check_encoded(page, _content(page, index))
            pixels = _finished(_hwc(page.asarray(squeeze=False, maxworkers=1)), page, kind, facts)
            return Stored(pictures.upright(pixels, _orientation(page)), facts, _metadata(page, file))
        about = _metadata(page, file)
    with _by_pillow(file):
        stored = pictures.read(file, suffix, indices)
    return Stored(stored.pixels, stored.facts._replace(frames=frames), about)


def inspect(file: BinaryIO, suffix: str) -> Facts:
    """What the tags of the first page say."""
    with _first_page(file) as (page, frames):
        kind = _kind(page)
        if not kind.by_pillow:
            return _facts(page, kind, frames)
    with _by_pillow(file):
        return pictures.inspect(file, suffix)._replace(frames=frames)


class Windows(NamedTuple):
    """The first page of an open TIFF file, whose windows are decoded one by one; it may be larger than memory."""

    page: Any
    kind: _Kind
    facts: Facts
    """Of the whole page."""
    metadata: Metadata

    def read(self, rows: slice, columns: slice) -> Stored:
        """The window as `read` would give it."""
        pixels = _finished(_decode_window(self.page, rows, columns), self.page, self.kind, self.facts)
        return Stored(pixels, self.facts, self.metadata)


@contextmanager
def open_windows(file: BinaryIO) -> Iterator[Windows | None]:
    """The first page for reading by windows; None if it can be read only as a whole."""
    with _first_page(file) as (page, frames):
        kind = _kind(page)
        if kind.by_pillow or _orientation(page) != 1:
            yield None
            return
        _check_segments(page)
        yield Windows(page, kind, _facts(page, kind, frames, whole=False), _metadata(page, file))


@contextmanager
def _first_page(file: BinaryIO) -> Iterator[tuple[Any, int]]:
    """The first page and the number of pages."""
    try:
        with tifffile.TiffFile(file, name="", is_ome=False) as tiff:
            if not (frames := len(tiff.pages)):
                raise ImageError("damaged (it holds no page); remove it or replace it")
            page: Any = tiff.pages.first
            yield page, frames
    except tifffile.TiffFileError as error:
        raise ImageError(f"damaged ({error}); remove it or replace it") from error


@contextmanager
def _by_pillow(file: BinaryIO) -> Iterator[None]:
    file.seek(0)
    try:
        yield
    except UnidentifiedImageError:
        raise ImageError("it is of a kind of TIFF that is not read; save it as grey or RGB") from None


# ---- tags


def _kind(page: Any) -> _Kind:
    """How a page is stored, if its values have a plain reading."""
    photometric, samples = int(page.photometric), page.samplesperpixel
    if not isinstance(page.bitspersample, int) or page.dtype is None:
        raise ImageError(f"samples of {page.bitspersample} bits are not read; save it with 8, 16 or 32 bits")
    if page.imagedepth > 1 or photometric not in _COLOURS:
        what = "is a volume" if page.imagedepth > 1 else f"stores {page.photometric!r:.60}"
        raise ImageError(f"it {what}, which is not read; save it as grey or RGB")
    extra = tuple(int(kind) for kind in page.extrasamples)
    if not extra and (photometric, samples) == (2, 4):
        extra = (_UNASSOCIATED,)  # as other readers take it
    single = samples - _COLOURS[photometric] == 1
    alpha = single and extra[-1:] in ((_ASSOCIATED,), (_UNASSOCIATED,))
    if int(page.compression) not in _JPEG:
        plain = photometric in (0, 1, 2) and page.bitspersample >= 8
    elif page.planarconfig == 2:
        plain = photometric in _GREY and page.bitspersample >= 8
    else:
        readable = int(page.compression) != _OLD_JPEG and page.bitspersample in (8, 12)
        plain = readable and _JPEG_COLOURS.get(photometric) == samples
    narrow = page.bitspersample <= 8 and page.dtype.kind in "ub"
    if not plain and samples - _COLOURS[photometric] > alpha:
        raise ImageError(
            f"it has {samples} bands in a form that is not read; save it without JPEG, as grey or RGB"
        )
    if not plain and not narrow:
        raise ImageError(
            f"it stores {page.bitspersample} bits as {page.photometric.name} with {page.compression.name}, which is not "
            "read; save it without JPEG, as grey or RGB"
        )
    premultiplied = alpha and extra[-1] == _ASSOCIATED
    by_pillow = not plain or (narrow and premultiplied and samples == 4)
    return _Kind(page.bitspersample, samples, alpha, premultiplied, by_pillow)


def _facts(page: Any, kind: _Kind, frames: int, whole: bool = True) -> Facts:
    dtype = npy.read_as(page.dtype)
    grey = int(page.photometric) in _GREY and kind.samples == 1 + kind.alpha
    channels = 4 if kind.alpha else kind.samples
    width, height = page.imagewidth, page.imagelength
    if whole:
        check_size(width, height, channels, page.dtype.itemsize)
    if _orientation(page) >= 5:
        width, height = height, width
    bits = kind.bits if page.dtype.kind == "u" and kind.bits < bits_of(dtype) else bits_of(dtype)
    return Facts(width, height, channels, grey, dtype, bits, kind.alpha, frames)


def _orientation(page: Any) -> int:
    value = page.tags.valueof(274)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _metadata(page: Any, file: BinaryIO) -> Metadata:
    """Resolution, profile and EXIF of a page; what is broken is left out."""
    icc = page.tags.valueof(34675)
    space = b"GRAY" if int(page.photometric) in _GREY and page.samplesperpixel <= 2 else b"RGB "
    fits = isinstance(icc, bytes) and icc[16:20] == space
    return Metadata(_dpi(page), metadata.of_tiff(file, page.offset), icc if fits else b"")


def _dpi(page: Any) -> tuple[float, float] | None:
    """Of the tags, which ImageJ gives in a unit of its own, or of OME-TIFF's sizes of a pixel."""
    text = page.description
    unit = re.search(r"^unit=(\S+)", text, re.MULTILINE) if text.startswith("ImageJ=") else None
    scale = _PER_INCH.get(unit[1]) if unit else {2: 1.0, 3: 2.54}.get(page.tags.valueof(296, default=2))
    try:
        if "<OME" in text and "PhysicalSizeX=" in text:
            found: Any = [_ome_dpi(text, axis) for axis in "XY"]
        else:
            found = [value[0] / value[1] * scale for value in map(page.tags.valueof, (282, 283))]
    except (TypeError, IndexError, KeyError, ValueError, ZeroDivisionError):
        return None
    return metadata.checked_dpi(found)


_PER_INCH = {"nm": 2.54e7, **dict.fromkeys(("um", "µm", "\u03bcm", "\\u00B5m", "micron", "microns"), 2.54e4)}
_PER_INCH |= {"mm": 25.4, "cm": 2.54, "inch": 1.0}
"""How many of a unit make an inch, by the names that ImageJ and OME-TIFF give it."""


def _ome_dpi(text: str, axis: str) -> float:
    """The resolution along an axis in the description of an OME-TIFF file."""
    found = dict(
        re.findall(
            rf'\b(PhysicalSize{axis}(?:Unit)?)="([^"]*)"', text.partition("<Pixels")[2].partition(">")[0]
        )
    )
    return _PER_INCH[found.get(f"PhysicalSize{axis}Unit", "µm")] / float(found[f"PhysicalSize{axis}"])


# ---- pixels


def _check_segments(page: Any) -> None:
    """Refuse a page whose strips or tiles lie outside the file, are missing, or are larger than an image may be."""
    size = page.parent.filehandle.size
    offsets, counts = page.dataoffsets, page.databytecounts
    inside = all(
        at >= 0 and count >= 0 and at + count <= size for at, count in zip(offsets, counts, strict=False)
    )
    if page.compression == 1 and page.is_contiguous:
        values = page.imagewidth * page.imagelength * page.samplesperpixel
        inside = inside and bool(offsets) and offsets[0] + values * page.dtype.itemsize <= size
    elif min(len(offsets), len(counts)) < _layout(page).total:
        inside = False
    if not inside:
        raise ImageError("damaged (the file is cut off); remove it or replace it")
    if page.is_tiled:
        check_size(page.tilewidth, page.tilelength, page.samplesperpixel, page.dtype.itemsize)


def _content(page: Any, index: int) -> bytes:
    """What the file holds for a strip or tile; empty if there is none."""
    page.parent.filehandle.seek(page.dataoffsets[index])
    return page.parent.filehandle.read(page.databytecounts[index])


def _check_encoded(page: Any, content: bytes) -> None:
    """Refuse a JPEG or JPEG 2000 strip or tile that is cut off or claims more pixels than it has room for.

    Its decoder would fill the rest with grey, or allocate what it claims.
    """
    if int(page.compression) in _JPEG_2000:
        width, height, _ = codestream_size(content)
    elif int(page.compression) in _JPEG and content:
        width, height = _jpeg_size(content)
        if _END_OF_JPEG not in content:
            raise ValueError("a part is cut off")
    else:
        return
    layout = _layout(page)
    if width > layout.width or height > layout.height:
        raise ValueError("a part is larger than its place")


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Width and height in the frame header of a JPEG; ValueError if it has none."""
    place = 2
    while place + 9 <= len(content) and content[place] == 0xFF:
        marker, length, _, height, width = struct.unpack_from(">xBHBHH", content, place)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return width, height
        place += 1 if marker == 0xFF else 2 + length
    raise ValueError("a part is not a JPEG")


def _hwc(array: Any) -> Pixels:
    """tifffile's (planes, depth, height, width, samples), of which the depth is 1, as (H, W, C)."""
    return np.moveaxis(array[:, 0, ..., 0], 0, -1) if array.shape[0] > 1 else array[0, 0]


def _decode_window(page: Any, rows: slice, columns: slice) -> Pixels:
    height, width = rows.stop - rows.start, columns.stop - columns.start
    window = np.empty((height, width, page.samplesperpixel), page.dtype.newbyteorder("="))
    for index in _segments(page, rows, columns):
        _, (plane, _, top, left, _), shape = page.decode(None, index)
        y0, y1 = max(rows.start, top), min(rows.stop, top + shape[1])
        x0, x1 = max(columns.start, left), min(columns.stop, left + shape[2])
        content = _content(page, index)
        try:
            _check_encoded(page, content)
            segment = page.decode(content or None, index, jpegtables=page.jpegtables)[0]
        except Exception as error:  # as in `images`: decoders raise nearly anything
            raise ImageError(
                f"damaged at rows {top} to {top + shape[1]} and columns {left} to {left + shape[2]} ({error}); replace it"
            ) from error
        bands = slice(plane, plane + shape[3]) if page.planarconfig == 2 else slice(None)
        part = page.nodata if segment is None else segment[0, y0 - top : y1 - top, x0 - left : x1 - left]
        window[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start, bands] = part
    return window


class _Layout(NamedTuple):
    """How a page is cut into strips or tiles."""

    height: int
    """Of a strip or tile, in pixels."""
    width: int
    down: int
    """How many there are below each other."""
    right: int
    planes: int

    @property
    def total(self) -> int:
        return self.planes * self.down * self.right


def _layout(page: Any) -> _Layout:
    height, width = (
        (page.tilelength, page.tilewidth)
        if page.is_tiled
        else (min(page.rowsperstrip, page.imagelength), page.imagewidth)
    )
    down, right = -(-page.imagelength // height), -(-page.imagewidth // width)
    return _Layout(height, width, down, right, planes=page.shaped[0])  # as tifffile allocates the pixels


def _segments(page: Any, rows: slice, columns: slice) -> Iterator[int]:
    """The numbers of the strips or tiles that a window touches: row by row, plane by plane."""
    height, width, down, right, planes = _layout(page)
    for plane in range(planes):
        for y in range(rows.start // height, -(-rows.stop // height)):
            for x in range(columns.start // width, -(-columns.stop // width)):
                yield (plane * down + y) * right + x


def _finished(pixels: Pixels, page: Any, kind: _Kind, facts: Facts) -> Pixels:
    """Decoded samples as `Stored` has them: white is high, alpha is apart from the colours and beside three of them."""
    pixels = npy.to_pixels(pixels, facts.dtype)
    if int(page.photometric) == 0 and pixels.dtype.kind in "iu":
        count = kind.samples - kind.alpha
        inverted = (
            ~pixels
            if pixels.dtype.kind == "i"
            else pixels.dtype.type(highest(pixels.dtype, kind.bits)) - pixels
        )
        pixels = np.concatenate([inverted[..., :count], pixels[..., count:]], axis=2)
    if kind.premultiplied:
        pixels = _unpremultiplied(pixels, facts.bits)
    if kind.alpha and kind.samples == 2:
        return np.concatenate([pixels[..., :1].repeat(3, axis=2), pixels[..., 1:]], axis=2)
    return pixels


def _unpremultiplied(pixels: Pixels, bits: int) -> Pixels:
    top = highest(pixels.dtype, bits)
    alpha = pixels[..., -1:].astype(np.float64)
    colours = np.divide(
        pixels[..., :-1] * float(top), alpha, where=alpha > 0, out=np.zeros(pixels[..., :-1].shape)
    )
    if pixels.dtype.kind != "f":
        colours = np.clip(np.rint(colours), np.iinfo(pixels.dtype).min, top)
    return np.concatenate([colours.astype(pixels.dtype), pixels[..., -1:]], axis=2)
