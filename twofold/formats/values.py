"""Stored pixels to the values of the networks, [-1, 1], and back."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twofold.formats.contract import Contract, Labels

Uint8 = NDArray[np.uint8]
"""Pixels, usually (H, W, C)."""

UINT8 = Contract()


def to_float(pixels: Tensor) -> Tensor:
    """uint8 0..255 to float32 -1..1, any shape: u / 127.5 - 1."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_uint8(pixels: Tensor) -> Tensor:
    """float -1..1 to uint8 0..255, any shape: rounded and clamped; inverts `to_float` exactly."""
    return ((pixels.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_network(pixels: Tensor, contract: Contract) -> Tensor:
    """Stored pixels (..., C, H, W) to the network's values, float32 (..., network channels, H, W) in [-1, 1].

    [low, high] is mapped linearly; values outside are clipped. Label ids are spread evenly over [-1, 1] in their order,
    or become one channel for each class, 1 where the pixel is of that class and -1 elsewhere; colours of label maps
    stay colours.
    """
    labels = contract.labels
    if labels and (labels.onehot or len(labels.values[0]) == 1):
        return _labels_to_network(pixels, labels)
    if contract.dtype == "uint8" and contract.low + contract.high == (0.0, 255.0):
        return to_float(pixels)
    wide = torch.float64 if pixels.dtype in (torch.uint32, torch.int32, torch.float64) else torch.float32
    low, high = (_per_channel(limits, pixels.device, wide) for limits in (contract.low, contract.high))
    return ((pixels.to(wide) - low) * (2 / (high - low)) - 1).clamp(-1, 1).to(torch.float32)


def from_network(values: Tensor, contract: Contract) -> Tensor:
    """The network's values (..., network channels, H, W) to stored pixels (..., C, H, W) of the contract's type.

    Inverts `to_network` exactly for integers of up to 16 bits inside the range; other values are clamped to it. Label
    maps get the nearest class.
    """
    labels = contract.labels
    if labels:
        return _labels_from_network(values, labels, contract.dtype)
    if contract.dtype == "uint8" and contract.low + contract.high == (0.0, 255.0):
        return to_uint8(values)
    dtype: torch.dtype = getattr(torch, contract.dtype)
    wide = torch.float64 if dtype in (torch.uint32, torch.int32, torch.float64) else torch.float32
    low, high = (_per_channel(limits, values.device, wide) for limits in (contract.low, contract.high))
    stored = (values.to(wide).clamp(-1, 1) + 1) / 2 * (high - low) + low
    if dtype.is_floating_point:
        return stored.to(dtype)
    limits = torch.iinfo(dtype)
    return stored.round().clamp(limits.min, limits.max).to(dtype)


@lru_cache(maxsize=64)  # making a tensor on a GPU would wait for its earlier work
def _per_channel(limits: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(limits, device=device, dtype=dtype)[:, None, None]  # (1 or C, 1, 1)


def _labels_to_network(pixels: Tensor, labels: Labels) -> Tensor:
    classes = class_of(pixels, labels)
    if not labels.onehot:
        return classes[..., None, :, :].to(torch.float32) * (2 / max(1, len(labels.values) - 1)) - 1
    numbers = torch.arange(len(labels.values), device=pixels.device)[:, None, None]
    return (classes[..., None, :, :] == numbers).to(torch.float32) * 2 - 1


def _labels_from_network(values: Tensor, labels: Labels, dtype: str) -> Tensor:
    stored = torch.tensor(labels.values, device=values.device)  # (K, C)
    if labels.onehot:
        classes = values.argmax(-3)
    elif stored.shape[1] == 1:
        steps = max(1, len(labels.values) - 1)
        classes = (
            ((values.squeeze(-3).to(torch.float32) + 1) * (steps / 2))
            .round()
            .clamp(0, len(stored) - 1)
            .long()
        )
    else:
        classes = class_of(to_uint8(values), labels)
    return stored[classes].movedim(-1, -3).to(getattr(torch, dtype))


def class_of(pixels: Tensor, labels: Labels) -> Tensor:
    """The class of each pixel of (..., C, H, W): int64 (..., H, W), the nearest value, the first of equally near ones."""
    stored, best, least = labels.values, None, None
    for number, value in enumerate(stored):
        channels = torch.tensor(value, device=pixels.device)[:, None, None]
        distance = (pixels.to(torch.int64) - channels).square().sum(-3)
        if least is None or best is None:
            least, best = distance, torch.zeros_like(distance)
            continue
        nearer = distance < least
        least, best = torch.where(nearer, distance, least), best.masked_fill(nearer, number)
    assert best is not None
    return best
