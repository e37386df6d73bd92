"""Arrays in `.npy` and `.npz` files: numbers of any type, (H, W) or (H, W, C) with any number of channels."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from twofold.formats.contract import DTYPES, Pixels
from twofold.formats.facts import Facts, ImageError, bits_of, check_size
from twofold.formats.stored import Stored

Layout = Literal["hwc", "chw"]
"""The order of an array's axes: height, width, channels; or channels first."""

_READ_AS = {"int64": "int32", "uint64": "uint32", "longdouble": "float64", "bool": "uint8"}
"""How types that no domain has are read: integers only if every value fits, booleans as 0 and 255."""


_FIRST = "first; give --data.layout chw, or save np.transpose(x, (1, 2, 0))"
_LAST = "last; leave out --data.layout chw, or save np.transpose(x, (2, 0, 1))"


def read(file: BinaryIO, layout: Layout) -> Stored:
    """The array as (H, W, C)."""
    with _array_file(file) as (member, size):
        shape, dtype = _header(member)
        facts = _facts(shape, dtype, layout)
        if size - member.tell() < math.prod(shape) * dtype.itemsize:
            raise ImageError("damaged (the file is cut off); remove it or replace it")
        member.seek(0)
        array = npy_format.read_array(member, allow_pickle=False)
    return Stored(to_pixels(_upright(array, layout), facts.dtype), facts)


def inspect(file: BinaryIO, layout: Layout) -> Facts:
    """The shape and the type, without reading the values."""
    with _array_file(file) as (member, _):
        return _facts(*_header(member), layout)


def to_pixels(array: NDArray[Any], dtype: str) -> Pixels:
    """A contiguous array of a type that a domain may have, in the machine's byte order, if every value fits."""
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "f" and (bad := array.size - int(np.isfinite(array).sum())):
        raise ImageError(
            f"{bad:,} of its {array.size:,} values are not finite (NaN or infinite); replace them with a number"
        )
    if array.dtype.itemsize == 8 and array.dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise ImageError(
                f"its {array.dtype} values from {array.min()} to {array.max()} do not fit into {dtype}; "
                "save them as one of " + ", ".join(DTYPES)
            )
    return np.ascontiguousarray(array, dtype=dtype)


def read_as(dtype: np.dtype[Any]) -> str:
    """The type that values of `dtype` are read as, if they are real numbers."""
    name = dtype.newbyteorder("=").name
    name = "longdouble" if dtype.kind == "f" and dtype.itemsize > 8 else name
    found = _READ_AS.get(name, name)
    if found not in DTYPES:
        raise ImageError(f"it holds values of the type {name}; save it as one of {', '.join(DTYPES)}")
    return found


def _facts(shape: tuple[int, ...], stored: np.dtype[Any], layout: Layout) -> Facts:
    dtype = read_as(stored)
    if len(shape) not in (2, 3):
        words = " x ".join(map(str, shape)) or "none"
        raise ImageError(f"it holds {stored} of shape {words}; save an array (H, W, C) or (H, W)")
    if len(shape) == 3 and _channels_first(shape if layout == "hwc" else shape[::-1]):
        words = _FIRST if layout == "hwc" else _LAST
        raise ImageError(f"its shape {' x '.join(map(str, shape))} has the channels {words}")
    height, width, channels = (
        (*shape, 1) if len(shape) == 2 else shape if layout == "hwc" else (*shape[1:], shape[0])
    )
    if channels == 0:
        raise ImageError("it has no channels; remove it")
    check_size(width, height, channels, stored.itemsize)
    return Facts(width, height, channels, channels == 1, dtype, bits_of(dtype))


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the first of three axes is surely that of the channels and the last one is not."""
    first, second, last = shape
    few = first <= 4 or 8 * first <= min(second, last) or 2 * first <= second == last
    return last > 16 and first > 0 and second > 4 and few


def _upright(array: NDArray[Any], layout: Layout) -> NDArray[Any]:
    if array.ndim == 2:
        return array[..., None]
    return array.transpose(1, 2, 0) if layout == "chw" else array


# ---- the file


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and the type of the array."""
    version = npy_format.read_magic(file)
    read_header = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
    if version not in read_header:
        raise ImageError(f"its version {version} of the .npy format is not read; save it again with np.save")
    shape, _, dtype = read_header[version](file)
    return shape, dtype


@contextmanager
def _array_file(file: BinaryIO) -> Iterator[tuple[Any, int]]:
    """The `.npy` file itself, or the only member of an archive of arrays, opened to read and seek; its size in bytes."""
    is_archive = file.read(2) == b"PK"
    size = file.seek(0, 2)
    file.seek(0)
    if not is_archive:
        yield file, size
        return
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if len(names) != 1:
            keys = ", ".join(name.removesuffix(".npy") for name in names[:8])
            raise ImageError(f"it is an archive of {len(names)} arrays ({keys}); save one array with np.save")
        with archive.open(names[0]) as member:
            yield member, archive.getinfo(names[0]).file_size
