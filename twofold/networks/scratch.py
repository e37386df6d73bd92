"""Memory for intermediate values of convolutions on a CPU, used again and again.

A step's large short-lived tensors, between small ones that stay until their gradient is taken, leave the process's heap in
pieces that the next large one does not fit: at 256 px a third of the memory was lost so. And memory just used is still
in the processor's cache.
"""

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor


class Kept(threading.local):
    """Each thread's."""

    def __init__(self) -> None:
        self.memory: dict[tuple[str, torch.dtype], Tensor] = {}


_kept = Kept()


def scratch(name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of any content, in this thread's memory of that name: whoever had it before has it no more."""
    size = math.prod(shape)
    have = _kept.memory.get((name, dtype))
    if have is None or len(have) < size:
        with torch.inference_mode(False):  # else it could not be used for training afterwards
            have = _kept.memory[name, dtype] = torch.empty(size, dtype=dtype)
    return have[:size].view(*shape)


def empty(n: int, channels: int, height: int, width: int, like: Tensor) -> Tensor:
    """Images (N, C, H, W) whose pixels' channels lie side by side."""
    shape = (n, channels, height, width)
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last)
