"""Stored pixels to the values of the networks, [-1, 1], and back."""

from functools import lru_cache
from itertools import pairwise
from typing import Any

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
    return to_levels(pixels, UINT8).to(torch.uint8)


def to_network(pixels: Tensor, contract: Contract) -> Tensor:
    """Stored pixels (..., C, H, W) to the network's values, float32 (..., network channels, H, W) in [-1, 1].

    [low, high] is mapped linearly; values outside are clipped. Label ids are spread evenly over [-1, 1] in their order,
    or become one channel for each class, 1 where the pixel is of that class and -1 elsewhere; colours of label maps
    stay colours.
    """
    labels = contract.labels
    if labels and (labels.onehot or labels.ids is not None):
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
    return to_levels(values, contract).to(getattr(torch, contract.dtype))


def stored_pixels(outputs: Tensor, target: Contract) -> NDArray[Any]:
    """The network's outputs (N, C, H, W) as stored pixels (N, H, W, C) of a contract."""
    on_device = target.dtype == "uint8"  # some devices lack wider types
    return last_axis(from_network(outputs if on_device else outputs.cpu(), target))


def last_axis(planes: Tensor) -> NDArray[Any]:
    """(N, C, H, W) on any device to an array (N, H, W, C)."""
    return np.ascontiguousarray(planes.permute(0, 2, 3, 1).cpu().numpy())


def to_levels(values: Tensor, contract: Contract) -> Tensor:
    """What `from_network` stores, without labels, still as floats: rounded to whole numbers for integer types."""
    if contract.dtype == "uint8" and contract.low + contract.high == (0.0, 255.0):
        return ((values.to(torch.float32) + 1) * 127.5).round().clamp(0, 255)
    dtype: torch.dtype = getattr(torch, contract.dtype)
    wide = torch.float64 if dtype in (torch.uint32, torch.int32, torch.float64) else torch.float32
    low, high = (_per_channel(limits, values.device, wide) for limits in (contract.low, contract.high))
    stored = (values.to(wide).clamp(-1, 1) + 1) / 2 * (high - low) + low
    if dtype.is_floating_point:
        return stored
    limits = torch.iinfo(dtype)
    return stored.round().clamp(limits.min, limits.max)


@lru_cache(maxsize=64)  # making a tensor on a GPU would wait for its earlier work
def _per_channel(limits: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(limits, device=device, dtype=dtype)[:, None, None]  # (1 or C, 1, 1)


# ---- label maps


def class_of(pixels: Tensor, labels: Labels) -> Tensor:
    """The class of each pixel of (..., C, H, W): int64 (..., H, W), the nearest value, the first of equally near ones."""
    if labels.ids is not None:
        return torch.bucketize(pixels.squeeze(-3).to(torch.int64), _borders(labels, pixels.device))
    return _nearest_colour(pixels, labels)


def _labels_to_network(pixels: Tensor, labels: Labels) -> Tensor:
    classes = class_of(pixels, labels).unsqueeze(-3)
    if not labels.onehot:
        return classes.to(torch.float32) * (2 / max(1, len(labels.values) - 1)) - 1
    shape = *pixels.shape[:-3], len(labels.values), *pixels.shape[-2:]
    return torch.full(shape, -1.0, device=pixels.device).scatter_(-3, classes, 1.0)


def _labels_from_network(values: Tensor, labels: Labels, dtype: str) -> Tensor:
    stored = _stored(labels, values.device)  # (K, C)
    if labels.onehot:
        classes = values.argmax(-3)
    elif stored.shape[1] == 1:
        steps = max(1, len(stored) - 1)
        spread = (values.squeeze(-3).to(torch.float32) + 1) * (steps / 2)
        classes = spread.round().clamp(0, len(stored) - 1).to(torch.int64)
    else:
        classes = _nearest_colour(to_uint8(values), labels)
    return stored[classes].movedim(-1, -3).to(getattr(torch, dtype))


CHUNK = 2**16
"""Pixels whose distances to all colours are computed at a time: 64 MiB for 256 colours."""


def _nearest_colour(pixels: Tensor, labels: Labels) -> Tensor:
    """The place (..., H, W) of the nearest colour, by |p - c|² - |p|² = |c|² - 2 p·c; exact, as all are whole numbers."""
    colours = _stored(labels, pixels.device).to(torch.float32)  # (K, C)
    points = pixels.movedim(-3, -1).reshape(-1, colours.shape[1])
    with torch.autocast(pixels.device.type, enabled=False):
        squares, doubled = colours.square().sum(1), colours.T * -2
        nearest = [
            torch.addmm(squares, part.to(torch.float32), doubled).argmin(1) for part in points.split(CHUNK)
        ]
    return torch.cat(nearest).view(*pixels.shape[:-3], *pixels.shape[-2:])


@lru_cache(maxsize=16)
def _stored(labels: Labels, device: torch.device) -> Tensor:
    """The values (K, C) of the classes; kept on the device, as a copy to it would wait for its earlier work."""
    with torch.inference_mode(mode=False):
        return torch.tensor(labels.values, device=device)


@lru_cache(maxsize=16)
def _borders(labels: Labels, device: torch.device) -> Tensor:
    """The largest value (K - 1,) that belongs to each id but the last."""
    with torch.inference_mode(mode=False):
        borders = [(low + high) // 2 for low, high in pairwise(labels.ids or ())]
        return torch.tensor(borders, device=device, dtype=torch.int64)
