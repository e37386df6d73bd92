"""Memory for intermediate values of convolutions on a CPU, which is used again and again.

A step makes large short-lived tensors between small ones that live until their gradient is computed. That leaves the
heap in pieces which the next large tensor does not fit: at 256 px a third of the memory was lost so. Memory that was
just used is also still in the processor's cache.
"""

import math
import threading
from collections import UserDict
from collections.abc import Sequence
from weakref import WeakValueDictionary

import torch
from torch import Tensor


class Memory(threading.local):
    """The tensors of one thread, by name and type, which live no longer than the thread."""

    def __init__(self) -> None:
        self.tensors: UserDict[tuple[str, torch.dtype], Tensor] = UserDict()
        with _lock:
            _all[threading.get_ident()] = self.tensors


_lock = threading.Lock()
_all: WeakValueDictionary[int, UserDict[tuple[str, torch.dtype], Tensor]] = WeakValueDictionary()
_own = Memory()


def scratch(name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of any content, in this thread's memory of that name, whose previous content is lost."""
    size = math.prod(shape)
    tensors = _own.tensors
    tensor = tensors.get((name, dtype))
    if tensor is None or len(tensor) < size:
        del tensor  # the smaller one is freed before the larger one is made
        tensors.pop((name, dtype), None)
        with torch.inference_mode(False):  # an inference tensor could not be used in training later
            tensor = tensors[name, dtype] = torch.empty(size, dtype=dtype, device="cpu")
    return tensor[:size].view(*shape)


def release() -> None:
    """Free the scratch memory of all threads; what a running convolution still uses is freed when it ends."""
    with _lock:
        for tensors in _all.values():
            tensors.clear()


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A channels-last tensor (N, C, H, W) of any content."""
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=torch.channels_last)
