"""Arrays in `.npy` files: uint8, (H, W) or (H, W, C) with any number of channels."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from twofold.formats.facts import Facts, ImageError, check_size
from twofold.formats.values import Uint8


def read(file: BinaryIO, channels: int | None) -> Uint8:
    """The array as (H, W, C), with `channels` channels if given; only 1 channel is converted, to 3."""
    image = _checked(np.load(file, allow_pickle=False))
    if channels is None or channels == image.shape[2]:
        return np.ascontiguousarray(image)
    if image.shape[2] == 1 and channels == 3:
        return image.repeat(3, axis=2)
    raise ImageError(f"it has {image.shape[2]} channels, not {channels}; .npy files are not converted")


def inspect(path: Path) -> Facts:
    """The shape, without reading the pixels."""
    if path.stat().st_size == 0:
        raise ImageError("the file is empty; remove it or replace it")
    array = np.atleast_3d(np.load(path, mmap_mode="r", allow_pickle=False))
    height, width, channels = array.shape
    return Facts(width, height, channels, channels == 1, str(array.dtype), 8 * array.itemsize)


def _checked(array: object) -> Uint8:
    """The array as (H, W, C), or ImageError."""
    if not isinstance(array, np.ndarray):
        raise ImageError("it is an archive of arrays; save one uint8 array (H, W, C) with np.save")
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        shape = " x ".join(map(str, array.shape))
        raise ImageError(f"it holds {array.dtype} of shape {shape or 'none'}; save uint8 (H, W, C) or (H, W)")
    image = array[..., None] if array.ndim == 2 else array
    if image.shape[2] == 0:
        raise ImageError("it has no channels; remove it")
    check_size(image.shape[1], image.shape[0])
    return image
