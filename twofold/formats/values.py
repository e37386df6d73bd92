"""The values of pixels: uint8 in files and caches, [-1, 1] in the networks."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Uint8 = NDArray[np.uint8]
"""Pixels, usually (H, W, C)."""


def to_float(pixels: Tensor) -> Tensor:
    """uint8 0..255 to float32 -1..1, any shape: u / 127.5 - 1."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_uint8(pixels: Tensor) -> Tensor:
    """float -1..1 to uint8 0..255, any shape: rounded and clamped; inverts `to_float` exactly."""
    return ((pixels.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
