"""Image files in and out: find, read, inspect, fit, resize, write.

An image is an array (H, W, C) in the type that its file stores: `pictures` (Pillow, and `deep` for over 8 bits), `tiff`
and `npy` read it; `fit` converts it to the type and channels of a contract.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import UnidentifiedImageError

from twofold.formats import npy, pictures
from twofold.formats.contract import Contract
from twofold.formats.facts import Facts, ImageError
from twofold.formats.find import SUFFIXES, TIFF_SUFFIXES, Found, find, find_all  # noqa: F401 - other rooms take them from here
from twofold.formats.metadata import Metadata  # noqa: F401
from twofold.formats.npy import Layout
from twofold.formats.resize import resize  # noqa: F401
from twofold.formats.stored import Stored, fit, metadata_of_fitted  # noqa: F401
from twofold.formats.values import Uint8, to_float, to_uint8  # noqa: F401
from twofold.formats.write import HELD, best_suffix, encode, holds, write  # noqa: F401

_ARRAYS = (".npy", ".npz")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_stored(
    path: Path | str, content: bytes | None = None, *, layout: Layout = "hwc", indices: bool = False
) -> Stored:
    """The first image of a file as it is stored: all channels, the stored type, upright, with its metadata.

    Grey with alpha becomes 4 channels, MinIsWhite is inverted in integers, planes become (H, W, C), values of under 8 bits are
    scaled to 0..255, other packed values are unpacked.

    Args:
        content: the bytes of the file, if the caller has read them.
        layout: the order of the axes in arrays.
        indices: give an indexed picture as its indices, (H, W, 1), for label maps.

    Raises:
        ImageError: not an image, damaged, over `facts.MAX_PIXELS` or `facts.MAX_BYTES`, with values that are not
            finite, or of a kind that cannot be read without loss.
    """
    with _opened(Path(path), content) as (file, suffix):
        if suffix in _ARRAYS:
            return npy.read(file, layout)
        return _module(file).read(file, suffix, indices)


def inspect(path: Path | str, layout: Layout = "hwc", content: bytes | None = None) -> Facts:
    """Size, channels, type, depth and frames of an image, from its header alone; `content` as of `read_stored`.

    Raises:
        ImageError: the header cannot be read. A file that passes may still turn out damaged in `read_stored`.
    """
    with _opened(Path(path), content) as (file, suffix):
        if suffix in _ARRAYS:
            return npy.inspect(file, layout)
        return _module(file).inspect(file, suffix)


def recognise(content: bytes) -> str | None:
    """The suffix, empty if none is needed, under which `read_stored` reads content without a name.

    None where it does not begin as any format does that is read.
    """
    if content.startswith((b"\x93NUMPY", b"PK")):
        return ".npz" if content.startswith(b"PK") else ".npy"
    return "" if content.startswith(_TIFF) or pictures.is_picture(content[:16]) else None


def read(path: Path | str, channels: int | None = None, content: bytes | None = None) -> Uint8:
    """The first image of a file as uint8 (H, W, C), upright: 16 bits are divided by 257.

    Args:
        channels: convert to this number; None leaves it as stored. Alpha is laid over white where it goes.
        content: the bytes of the file, if the caller has read them.

    Raises:
        ImageError: as `read_stored`, or of a type that has no plain 8-bit reading.
    """
    stored = read_stored(path, content)
    with named_errors(Path(path)):
        return fit(stored, Contract(channels=channels or stored.facts.channels))


@contextmanager
def open_windows(path: Path | str) -> Iterator[Any]:
    """A TIFF file of any size, to read it by windows: a `tiff.Windows`; None for a file that is read only as a whole.

    Raises:
        ImageError: its tags cannot be read; also from `read`, where a part is damaged.
    """
    path = Path(path)
    with ExitStack() as stack:
        with named_errors(path):
            file = stack.enter_context(path.open("rb"))
            module = _module(file)
            windows = None if module is pictures else stack.enter_context(module.open_windows(file))
        yield windows


@contextmanager
def _opened(path: Path, content: bytes | None) -> Iterator[tuple[BinaryIO, str]]:
    """A file, or its bytes, to read, with its suffix in lower case."""
    with named_errors(path), path.open("rb") if content is None else BytesIO(content) as file:
        if not file.read(1):
            raise ImageError("the file is empty; remove it or replace it")
        file.seek(0)
        yield file, path.suffix.lower()


def _module(file: BinaryIO) -> Any:
    """The module that reads a file other than an array."""
    prefix = file.read(4)
    file.seek(0)
    if prefix not in _TIFF:
        return pictures
    from twofold.formats import tiff  # its packages take a tenth of a second to import

    return tiff


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn every error of a decoder into an ImageError that begins with the file's name."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image, whatever its name says; remove it or replace it") from None
    except MemoryError:
        raise ImageError(f"{path}: too large for this machine's memory; make it smaller") from None
    except Exception as error:  # decoders raise nearly anything on a damaged file
        if isinstance(error, OSError) and error.filename is not None:  # it could not be opened
            raise ImageError(f"{path}: {error.strerror}") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: damaged ({reason}); remove it or replace it") from error
