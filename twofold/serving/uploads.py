"""From a request to pixels, and from a translation to a file: limits, parameters, decoding and encoding.

Functions raise `RefusedError` for a request that cannot be answered.
"""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from twofold.errors import TwofoldError
from twofold.formats import images
from twofold.formats.contract import DTYPES, Pixels
from twofold.formats.facts import Facts
from twofold.runs import DIRECTIONS
from twofold.serving.models import formats_for
from twofold.translation import inputs
from twofold.translation.inputs import Decoded
from twofold.translation.sizes import At
from twofold.translation.sources import FORMATS, usual, why_not
from twofold.translation.translator import Translator

UPLOAD_SECONDS = 30.0
"""Time in which an upload must arrive."""

BYTES_PER_PIXEL = 16
"""Most bytes that a pixel may take once it is decoded: four channels of float32."""

READABLE = "PNG, JPEG, WebP, TIFF, AVIF, GIF, BMP, JPEG 2000, PPM, .npy, .npz"

MEDIA = {
    **{name: f"image/{name}" for name in ("png", "webp", "bmp", "jp2", "avif")},
    **{"jpg": "image/jpeg", "tif": "image/tiff", "ppm": "image/x-portable-pixmap"},
    "pgm": "image/x-portable-graymap",
}
"""Media types of the formats that have one."""


class Limits(NamedTuple):
    """What a server takes.

    Attributes:
        bytes: of an upload.
        pixels: of an image, and of what the network sees of it.
        queue: requests that are decoded, translated or waiting at a time.
        seconds: from the end of the upload to the answer.
    """

    bytes: int = 32 << 20
    pixels: int = 1 << 24
    queue: int = 128
    seconds: float = 60.0

    @property
    def held(self) -> int:
        """Bytes that all uploads and their images may take together."""
        return 16 * max(self.bytes, 4 * self.pixels)


class RefusedError(Exception):
    """An answer that is no translation.

    Args:
        status: of HTTP.
        message: one line.
        retry_after: after how many seconds to try again.
        closes: the rest of the upload is not read, so that the connection cannot be used again.
    """

    def __init__(
        self, status: int, message: str, retry_after: int | None = None, *, closes: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after, self.closes = status, message, retry_after, closes


# ---- the body


async def read_body(request: Request, limits: Limits, hold: Callable[[int], None]) -> bytes:
    """The bytes of a request.

    Args:
        hold: called with the number of bytes before they are kept; raises RefusedError if the memory is full.
    """
    message = f"the upload is over the limit of {limits.bytes:,} bytes; make it smaller"
    if declared_length(request) > 2 * limits.bytes:
        raise RefusedError(413, message, closes=True)
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limits.bytes:
                    hold(len(chunk))
                    body += chunk
                elif size > 2 * limits.bytes:  # up to there it is read, so that the client reads the answer
                    raise RefusedError(413, message, closes=True)
    except TimeoutError:
        slow = f"the upload took more than {UPLOAD_SECONDS:g} s; send it again"
        raise RefusedError(408, slow, closes=True) from None
    except ClientDisconnect:
        raise RefusedError(400, "the connection was closed before the end of the upload") from None
    if size > limits.bytes:
        raise RefusedError(413, message)
    return bytes(body)


def declared_length(request: Request) -> int:
    """The length of the body as the client declares it; 0 if it does not."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else 0


async def read_form(request: Request, body: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    """The image and the other fields of a request, whose body is the image itself or a form with a field `image`."""
    fields: list[tuple[str, str]] = []
    content: bytes | None = body
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        parser = MultiPartParser(request.headers, _once(body), max_files=1, max_fields=20)
        parser.spool_max_size = len(body) + 1  # never to the disk
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise RefusedError(400, f"the form cannot be read: {error.message}") from None
        except Exception as error:  # of malformed headers
            raise RefusedError(400, f"the form cannot be read: {type(error).__name__}") from None
        fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        file = form.get("image")
        content = await file.read() if isinstance(file, UploadFile) else None
        await form.close()
    if content is None:
        raise RefusedError(422, "the form has no file in its field image: curl -F image=@FILE")
    if not content:
        raise RefusedError(400, "the body is empty; send an image, such as curl --data-binary @FILE")
    return content, fields


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


# ---- parameters


class Parameters(NamedTuple):
    """The parameters of a translation; None for the default."""

    model: str | None = None
    direction: str | None = None
    at: At = "trained"
    snapshot: str | None = None
    format: str | None = None


def read_parameters(given: Iterable[tuple[str, str]]) -> Parameters:
    """Read the names and values of a query or a form; an empty value is none."""
    values: dict[str, str] = {}
    for name, value in given:
        if name not in (*Parameters._fields, "token"):
            near = get_close_matches(name, Parameters._fields, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(Parameters._fields)}"
            raise RefusedError(422, f"unknown parameter {name[:50]!r}; {hint}")
        if not value:
            continue
        if name in values:
            raise RefusedError(422, f"the parameter {name} is given twice")
        values[name] = value
    direction, at, snapshot = values.get("direction"), values.get("at", "trained"), values.get("snapshot")
    if direction not in (None, *DIRECTIONS):
        raise _wrong("direction", "ab or ba", direction)
    if at not in ("trained", "native"):
        if not _is_number(at) or int(at) < 1:
            raise _wrong("at", "trained, native or a number of pixels", at)
        at = int(at)
    if snapshot not in (None, "best"):
        if not _is_number(snapshot):
            raise _wrong("snapshot", "best or the number of images that it had seen", snapshot)
        snapshot = str(int(snapshot))
    form = usual(f".{values['format']}").removeprefix(".") if "format" in values else None
    if form not in (None, *FORMATS):
        raise _wrong("format", f"one of {', '.join(FORMATS)}", values["format"])
    return Parameters(values.get("model"), direction, at, snapshot, form)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 13


def _wrong(name: str, wanted: str, value: str) -> RefusedError:
    return RefusedError(422, f"{name} must be {wanted}, not {value[:50]!r}")


# ---- pixels


def decode(content: bytes, translator: Translator, at: At, limits: Limits) -> Decoded:
    """The pixels of an upload, whose kind its content tells."""
    suffix, layout = images.recognise(content), translator.header.layout
    name = f"image{suffix or ''}"
    try:
        _check_size(images.inspect(name, layout, content), limits)
        decoded = inputs.decode(name, translator.source, translator.target, layout, content)
    except TwofoldError as error:
        line = str(error).removeprefix(f"{name}: ")
        if suffix is None and line.startswith("not an image"):
            line = f"the upload is not an image that is read: {READABLE}"
        status = 415 if suffix is None else 422
        raise RefusedError(status, line.replace("; remove it or replace it", "")) from None
    height, width, _ = decoded.image.shape
    rows, columns = translator.working_size(height, width, at)
    if rows * columns > limits.pixels:
        raise RefusedError(
            422,
            f"the network would see {columns:,}×{rows:,} pixels, over the limit of {limits.pixels:,}; use a smaller at",
        )
    return decoded


def _check_size(facts: Facts, limits: Limits) -> None:
    pixels = facts.width * facts.height
    if pixels > limits.pixels:
        raise RefusedError(
            413,
            f"{facts.width:,}×{facts.height:,} pixels are over the limit of {limits.pixels:,}; make the image smaller",
        )
    itemsize = np.dtype(facts.dtype).itemsize if facts.dtype in DTYPES else 8
    if pixels * facts.channels * itemsize > (most := BYTES_PER_PIXEL * limits.pixels):
        raise RefusedError(413, f"the image takes over {most:,} bytes once it is decoded; make it smaller")


def check_format(format: str | None, translator: Translator) -> str:
    """The format of a result: the one that is wanted, or the best one."""
    formats, target = formats_for(translator.header), translator.target
    if format is None:
        return formats[0]
    if format in formats:
        return format
    if images.holds(f".{format}", target.dtype, target.channels):
        raise RefusedError(422, f"format={format} changes the values of label maps; use png")
    raise RefusedError(422, f"format={format}: {why_not(f'.{format}', target)}")


def encode(image: Pixels, decoded: Decoded, translator: Translator, format: str) -> bytes:
    """The file of a translation."""
    is_array = format in ("npy", "npz") and translator.header.layout == "chw"
    labels, file = translator.target.labels, io.BytesIO()
    images.encode(
        image.transpose(2, 0, 1) if is_array else image,
        file,
        Path(f"image.{format}"),
        decoded.metadata,
        alpha=decoded.alpha,
        palette=labels.palette if labels else (),
        png_level=1,
    )
    return file.getvalue()
