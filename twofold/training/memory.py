"""What a training step will take, found by running it without any data."""

import copy

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from twofold import hardware
from twofold.errors import UsageError
from twofold.methods.base import Batch, Method

BYTES_PER_PARAMETER = 16
"""A float32 weight, its gradient and Adam's two moments."""

OVERHEAD = 1.3
"""Temporaries and fragmentation over the sum of what is kept, measured on ResNet-6 and -9 steps."""


def estimate(method: Method, batch: Batch, bytes_per_value: int) -> int:
    """Peak bytes of a training step.

    The step runs on the meta device, which has shapes and no data, and the activations that its backward passes
    would need are added up, phase by phase.

    Args:
        batch: any tensors of the right shapes.
        bytes_per_value: 4, or 2 where activations are kept in bf16.
    """
    ghost = copy.deepcopy(method).to("meta")
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    peak = 0
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        for _ in ghost.step(Batch(*(torch.empty_like(x, device="meta") for x in batch))):
            peak = max(peak, sum(kept.values()))
            kept.clear()
    weights = sum(p.numel() for p in method.parameters())
    return round(weights * BYTES_PER_PARAMETER + peak * bytes_per_value / 4 * OVERHEAD)


def check(needed: int, device: torch.device, size: int, batch: int) -> None:
    """Refuse a training that cannot fit, naming a size or batch that would.

    Raises:
        UsageError: more is needed than is free.
    """
    free = hardware.free_memory(device)
    if free is None or needed <= free:
        return
    smaller = max(32, int(size * (0.9 * free / needed) ** 0.5) // 32 * 32)
    way = f"--size {smaller}" if batch == 1 else f"--batch {max(1, int(batch * 0.9 * free / needed))}"
    raise UsageError(
        f"a step of {batch} × {size} px needs about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free on"
        f" {device}; {way} would fit"
    )
