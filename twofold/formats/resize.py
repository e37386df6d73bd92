"""Pixels of any type to another size."""

import numpy as np
import torch

from twofold.formats.contract import Pixels


def resize(pixels: Pixels, height: int, width: int, nearest: bool = False) -> Pixels:
    """Bicubic with antialias to (height, width, C), for any C and type; or, with `nearest`, without new values.

    Bicubic goes over the width, then the height; for uint8 each of the two passes equals Pillow's within one level.
    Other types are computed in float32 (float64 for 32-bit integers and float64), rounded if they are integers, and
    stay between the lowest and the highest value of each channel.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype == np.uint8:
        whole = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        return _interpolated(whole, height, width, nearest)
    wide = np.float64 if nearest or (pixels.dtype.itemsize > 2 and pixels.dtype != np.float32) else np.float32
    resized = _interpolated(torch.from_numpy(pixels.astype(wide)), height, width, nearest)
    return resized.astype(pixels.dtype) if nearest else _inside(resized, pixels)


def _interpolated(pixels: torch.Tensor, height: int, width: int, nearest: bool) -> Pixels:
    planes = pixels.permute(2, 0, 1)  # (C, H, W)
    # Beyond 4 channels torch takes another path, which is wrong where the result is one pixel wide.
    batch = planes[None] if len(planes) <= 4 else planes[:, None]
    mode = "nearest-exact" if nearest else "bicubic"
    resized = torch.nn.functional.interpolate(batch, size=(height, width), mode=mode, antialias=not nearest)
    return resized.reshape(len(planes), height, width).permute(1, 2, 0).contiguous().numpy()


def _inside(resized: Pixels, pixels: Pixels) -> Pixels:
    """Resized numbers in the type of the image, inside the values that each of its channels has."""
    rounded = resized if pixels.dtype.kind == "f" else np.rint(resized)
    low, high = (limit((0, 1)).astype(resized.dtype) for limit in (pixels.min, pixels.max))
    return np.clip(rounded, low, high).astype(pixels.dtype)
