"""Memory for intermediate values of convolutions on a CPU, which is used again and again.

A step makes large short-lived tensors between small ones that live until their gradient is computed. That leaves the
heap in pieces which the next large tensor does not fit: at 256 px a third of the memory was lost so. Memory that was
just used is also still in the processor's cache.
"""

import math
import threading
from collections.abc import Sequence
from weakref import WeakSet

import torch
from torch import Tensor


class Memory:
    """The tensors of one thread, by name and type."""

    def __init__(self) -> None:
        self.tensors: dict[tuple[str, torch.dtype], Tensor] = {}


class Own(threading.local):
    """Each thread's memory, which lives no longer than the thread."""

    def __init__(self) -> None:
        self.memory = Memory()
        with _lock:
            _all.add(self.memory)


_lock = threading.Lock()
_all: WeakSet[Memory] = WeakSet()
_own = Own()


def scratch(name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of any content, in this thread's memory of that name, whose previous content is lost."""
    size = math.prod(shape)
    tensors = _own.memory.tensors
    tensor = tensors.get((name, dtype))
    if tensor is None or len(tensor) < size:
        with torch.inference_mode(False):  # an inference tensor could not be used in training later
            tensor = tensors[name, dtype] = torch.empty(size, dtype=dtype, device="cpu")
    return tensor[:size].view(*shape)


def release() -> None:
    """Free the scratch memory of all threads; what a running convolution still uses is freed when it ends."""
    with _lock:
        for memory in _all:
            memory.tensors.clear()


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A channels-last tensor (N, C, H, W) of any content."""
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=torch.channels_last)
