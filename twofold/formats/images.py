"""Image files in and out: find, read, inspect, resize, write.

An image is a uint8 array (H, W, C): C is 1 (grey), 3 (red, green, blue) or 4 (with alpha) in the formats that Pillow
reads (`pictures`), and any number in a `.npy` file (`npy`).
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from twofold.errors import UsageError
from twofold.files import replacing
from twofold.formats import npy, pictures
from twofold.formats.facts import Facts, ImageError
from twofold.formats.pictures import from_picture  # noqa: F401 - other rooms take it from here
from twofold.formats.values import Uint8, to_float, to_uint8  # noqa: F401 - other rooms take both from here

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".npy"])
"""The suffixes of image files in a folder, in lower case; other files are ignored."""

_ENCODERS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"},
    ".webp": {"format": "WEBP", "quality": 90},
}


JUNK = ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")
"""Files and folders that systems make, besides hidden ones."""


class Stored(NamedTuple):
    """An image as it is stored: (H, W, C)."""

    pixels: Uint8
    facts: Facts


class Found(NamedTuple):
    """What a folder holds: its images in natural order, other files counted by suffix, and files of systems."""

    images: list[Path]
    ignored: Counter[str]
    junk: int


# ---- finding


def find_all(folder: Path | str) -> Found:
    """Every file below a folder by what it is."""
    root = Path(folder)
    files = [Path(here, name) for here, _, names in os.walk(root, followlinks=True) for name in names]
    kept = set(_walk(root))
    ignored = Counter(path.suffix.lower() for path in kept if path.suffix.lower() not in SUFFIXES)
    found = [path for path in kept if path.suffix.lower() in SUFFIXES]
    return Found(
        sorted(found, key=lambda path: _natural(path.relative_to(root).as_posix())),
        ignored,
        len(files) - len(kept),
    )


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name in JUNK


def find(folder: Path | str) -> list[Path]:
    """Every image file below `folder`, in natural order of its relative name (2 before 10).

    Hidden files and folders are skipped; symbolic links are followed, each folder once.

    Raises:
        UsageError: `folder` is missing, not a folder, unreadable, or holds no image.
    """
    root = Path(folder)
    if not root.exists():
        raise UsageError(f"{root} does not exist; give a folder of images")
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder; give a folder of images")
    files = [path for path in _walk(root) if path.is_file()]
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not found:
        seen = f"{len(files):,} other file{'' if len(files) == 1 else 's'}"
        raise UsageError(f"{root} holds no images ({seen}); known suffixes: {' '.join(sorted(SUFFIXES))}")
    return sorted(found, key=lambda path: _natural(path.relative_to(root).as_posix()))


def _walk(root: Path) -> Iterator[Path]:
    visited: set[str] = set()
    for here, folders, names in os.walk(root, onerror=_refuse_unreadable, followlinks=True):
        real = os.path.realpath(here)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not _is_junk(name))
        yield from (Path(here, name) for name in names if not _is_junk(name))


def _refuse_unreadable(error: OSError) -> None:
    raise UsageError(f"cannot read the folder {error.filename}: {error.strerror}; check its permissions")


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


# ---- reading


def read(path: Path | str, channels: int | None = None, content: bytes | None = None) -> Uint8:
    """The image in a file, upright, as (H, W, C).

    Animations give their first frame. 16-bit grey (also stored as 32-bit integers) is divided by 257 and
    rounded; of 16-bit colour Pillow keeps the high byte, at most one level off.

    Args:
        channels: 1, 3 or 4 converts (a removed alpha is laid over white; grey is the luma of Rec. 601); None keeps
            what is stored. A `.npy` file must have exactly this many, except that 1 is repeated to 3.
        content: the bytes of the file, if the caller has read them.

    Raises:
        ImageError: not an image, damaged, over `facts.MAX_PIXELS`, or of a type that has no plain 8-bit reading.
    """
    path = Path(path)
    decode = npy.read if path.suffix.lower() == ".npy" else pictures.read
    with _named_errors(path), path.open("rb") if content is None else BytesIO(content) as file:
        return decode(file, channels)


def read_stored(path: Path | str) -> Stored:
    """The image in a file with all its channels."""
    return Stored(read(path), inspect(path))


def inspect(path: Path | str) -> Facts:
    """Size, channels, depth and frames of an image, from its header alone.

    Raises:
        ImageError: the header cannot be read. A file that passes may still turn out damaged in `read`.
    """
    path = Path(path)
    with _named_errors(path):
        if path.suffix.lower() == ".npy":
            return npy.inspect(path)
        with path.open("rb") as file:
            return pictures.inspect(file)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn every error of a decoder into an ImageError that begins with the file's name."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image, whatever its name says; remove it or replace it") from None
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ImageError(f"{path}: {error.strerror}") from None
    except MemoryError:
        raise ImageError(f"{path}: too large for this machine's memory; make it smaller") from None
    except Exception as error:  # decoders raise nearly anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: damaged ({reason}); remove it or replace it") from error


# ---- resizing, writing


def resize(image: Uint8, height: int, width: int, nearest: bool = False) -> Uint8:
    """Bicubic with antialias to (height, width, C), for any C; or, with `nearest`, without new colours.

    Bicubic goes over the width, then the height; each of the two passes equals Pillow's within one level.
    """
    if image.shape[:2] == (height, width):
        return image
    planes = torch.from_numpy(image).permute(2, 0, 1)  # (C, H, W)
    # Beyond 4 channels torch takes another path, which is wrong where the result is one pixel wide.
    batch = planes[None] if len(planes) <= 4 else planes[:, None]
    mode = "nearest-exact" if nearest else "bicubic"
    resized = torch.nn.functional.interpolate(batch, size=(height, width), mode=mode, antialias=not nearest)
    return resized.reshape(len(planes), height, width).permute(1, 2, 0).contiguous().numpy()


def write(image: Uint8, path: Path | str) -> None:
    """Save (H, W, C) in the format that the suffix names: png, jpg, webp, or npy for any number of channels.

    The file appears whole or not at all; its folder is created.

    Raises:
        UsageError: the suffix is none of these, or its format cannot hold so many channels.
        ImageError: the disk or the encoder failed.
    """
    path, channels = Path(path), image.shape[2]
    suffix = path.suffix.lower()
    if suffix != ".npy" and suffix not in _ENCODERS:
        raise UsageError(f"cannot write {path}: end its name with {', '.join(_ENCODERS)} or .npy")
    if suffix != ".npy" and channels not in ((1, 3) if suffix in (".jpg", ".jpeg") else (1, 3, 4)):
        better = ".png" if channels == 4 else ".npy"
        raise UsageError(f"cannot write {path}: {suffix} does not hold {channels} channels; use {better}")
    try:
        with replacing(path) as aside, aside.open("wb") as file:
            if suffix == ".npy":
                np.save(file, image, allow_pickle=False)
            else:
                picture = Image.fromarray(image[..., 0] if channels == 1 else image)
                picture.save(file, **_ENCODERS[suffix])
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
