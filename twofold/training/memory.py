"""What a training step will take, found by running it without any data."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from twofold import hardware
from twofold.errors import UsageError
from twofold.methods.base import Batch, Method

BYTES_PER_PARAMETER = {"float32": 16, "bf16": 18}
"""A float32 weight, its gradient and Adam's two moments; and what the weight is rounded to."""

OVERHEAD, CPU_OVERHEAD = 1.3, 1.8
"""Temporaries and fragmentation over the sum of what is kept. Measured on a CPU, with freed memory kept, on steps of
ResNet-6 at 128 px (0.92 of what was taken) and ResNet-9 at 256 px (1.14); elsewhere the allocator sees less of it."""

BYTES_PER_VALUE = {"float32": 4, "bf16": 3}
"""Of an activation; autocast keeps some in float32, measured likewise."""

MARGIN = 0.9
"""The share of the free memory that a size or batch worth naming fills."""


class Need(NamedTuple):
    """Bytes that a training takes."""

    fixed: int
    """Weights, gradients, moments: whatever the images are."""
    images: int
    """Activations: in proportion to the batch and to the pixels of an image."""

    @property
    def total(self) -> int:
        return self.fixed + self.images


def estimate(
    method: Method, batch: Batch, *, precision: str, averaged: bool = False, device: str = "cpu"
) -> Need:
    """Peak memory of a training step.

    The step runs on the meta device, which has shapes and no data, and the activations that its backward passes
    would need are added up, phase by phase.

    Args:
        method, batch: of the right shapes, on the meta device.
        precision: "float32" or "bf16".
        averaged: whether averaged generators are kept as well.
        device: the kind that it would run on.
    """
    kept: dict[int, int] = {}
    weights = {p.untyped_storage()._cdata for p in method.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    peak = 0
    with torch.random.fork_rng([]), saved_tensors_hooks(pack, lambda tensor: tensor):
        for _ in method.step(batch):
            peak = max(peak, sum(kept.values()))
            kept.clear()
    trained = sum(p.numel() for p in method.parameters())
    shipped = sum(
        p.numel() for name in method.translators.values() for p in method.get_submodule(name).parameters()
    )
    fixed = trained * BYTES_PER_PARAMETER[precision] + (4 * shipped if averaged else 0)
    overhead = CPU_OVERHEAD if device == "cpu" else OVERHEAD
    return Need(fixed, round(peak / 4 * BYTES_PER_VALUE[precision] * overhead))


def check(need: Need, device: torch.device, size: int, batch: int, multiple_of: int) -> None:
    """Refuse a training that cannot fit, naming a size or batch that would.

    Raises:
        UsageError: more is needed than is free.
    """
    free = hardware.free_memory(device)
    if free is None or need.total <= free:
        return
    raise UsageError(
        f"a step of {batch} × {size} px needs about {need.total / 2**30:.1f} GiB, {free / 2**30:.1f} are free on"
        f" {device}; {way_out(need, free, size, batch, multiple_of)}"
    )


def way_out(need: Need, free: int, size: int, batch: int, multiple_of: int) -> str:
    """A smaller batch, else a smaller size, else smaller networks."""
    share = max(0.0, (MARGIN * free - need.fixed) / need.images)
    if fewer := int(batch * share):
        return f"--batch {fewer} would fit"
    step = math.lcm(32, multiple_of)
    if smaller := int(size * math.sqrt(batch * share)) // step * step:
        return f"--size {smaller}{' --batch 1' if batch > 1 else ''} would fit"
    return "no size would fit: lower --generator.width and --discriminator.width"
