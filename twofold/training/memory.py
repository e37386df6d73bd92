"""The memory that a training step needs, estimated by running it without data."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from twofold import hardware
from twofold.config import Config
from twofold.errors import UsageError
from twofold.methods.base import Batch, Method
from twofold.training.build import build

BYTES_PER_PARAMETER = {"float32": 16, "bf16": 18, "fp16": 18}
"""A float32 weight, its gradient and Adam's two moments; with bf16 or fp16 also the rounded weight."""

OVERHEAD, CPU_OVERHEAD = 1.3, 1.8
"""Factor for temporaries and fragmentation. Measured on a CPU: with it the estimate is 0.92 of a ResNet-6 step's memory
at 128 px and 1.14 of a ResNet-9 step's at 256 px. Not measured on a GPU."""

BYTES_PER_VALUE = {"float32": 4, "bf16": 3, "fp16": 3}
"""Of an activation, on average: autocast keeps some in float32."""

MARGIN = 0.9
"""The share of the free memory that a suggested size or batch may fill."""


class Need(NamedTuple):
    """Bytes that a training step needs."""

    fixed: int
    """Weights, gradients, moments."""
    images: int
    """Activations: proportional to the batch and to the pixels of an image."""

    @property
    def total(self) -> int:
        return self.fixed + self.images


def estimate_step(config: Config) -> Need:
    """Peak memory of a run's training step, for a config whose machine settings are chosen."""
    size, batch = config.data.size, config.training.batch
    with torch.device("meta"):
        method = build(config)
        a, b = (
            torch.empty(batch, channels or 3, size, size)
            for channels in (config.data.channels_a, config.data.channels_b)
        )
    return estimate(
        method,
        Batch(a, b, number=config.adversarial.critic_steps - 1),
        precision=config.machine.precision,
        averaged=config.training.ema > 0,
        device=config.machine.device.split(":")[0],
    )


def estimate(
    method: Method, batch: Batch, *, precision: str, averaged: bool = False, device: str = "cpu"
) -> Need:
    """Peak memory of a training step.

    The step runs on the meta device, which has shapes and no data. The activations that each backward pass would need
    are added up.

    Args:
        method, batch: on the meta device.
        precision: "float32", "bf16" or "fp16".
        device: the type of the device that would run the step.
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
    trained = sum(p.numel() for network in method.networks().values() for p in network.parameters())
    shipped = sum(
        p.numel() for name in method.translators.values() for p in method.get_submodule(name).parameters()
    )
    fixed = trained * BYTES_PER_PARAMETER[precision] + (4 * shipped if averaged else 0)
    overhead = CPU_OVERHEAD if device == "cpu" else OVERHEAD
    return Need(fixed, round(peak / 4 * BYTES_PER_VALUE[precision] * overhead))


def check(need: Need, device: torch.device, size: int, batch: int, multiple_of: int) -> None:
    """Refuse a run whose step does not fit, and name a size or batch that would.

    Raises:
        UsageError: the step needs more memory than is free.
    """
    free = hardware.free_memory(device)
    if free is None or need.total <= free:
        return
    raise UsageError(
        f"a step with --batch {batch} --size {size} needs about {need.total / 2**30:.1f} GiB, {free / 2**30:.1f} are"
        f" free on {device}; {suggestion(need, free, size, batch, multiple_of)}"
    )


def suggestion(need: Need, free: int, size: int, batch: int, multiple_of: int) -> str:
    """A smaller batch, else a smaller size, else smaller networks."""
    share = max(0.0, (MARGIN * free - need.fixed) / need.images)
    if fewer := int(batch * share):
        return f"--batch {fewer} would fit"
    step = math.lcm(32, multiple_of)
    if smaller := int(size * math.sqrt(batch * share)) // step * step:
        return f"--size {smaller}{' --batch 1' if batch > 1 else ''} would fit"
    return "no size would fit: lower --generator.width and --discriminator.width"
