"""Several processes that train one model, by torch.distributed under torchrun.

With one process, the common case, every function here does nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from twofold.errors import TwofoldError

BUCKET = 25 * 2**20
"""Bytes of gradients in one all-reduce."""

TIMEOUT = timedelta(hours=3)
"""How long processes wait for each other: the first may decode two large folders."""


def start(device: torch.device) -> bool:
    """Join the process group that torchrun describes in the environment; whether there was one."""
    if "RANK" not in os.environ or dist.is_initialized():
        return False
    if device.type == "cuda":
        torch.cuda.set_device(device)  # used by barriers and broadcasts
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    return True


def stop() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """This process's number on its machine, which selects its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def barrier() -> None:
    """Wait until every rank is here."""
    if world() > 1:
        dist.barrier()


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the block on rank 0, then on the others, which find what rank 0 has written.

    Raises:
        TwofoldError: on the others, if rank 0 has failed.
    """
    outcome = [False]
    if rank() != 0:
        dist.broadcast_object_list(outcome)
        if not outcome[0]:
            raise TwofoldError("the first process has failed; see its message")
        yield
        return
    try:
        yield
        outcome = [True]
    finally:
        if world() > 1:
            dist.broadcast_object_list(outcome)


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is set on any rank. Every rank must call it at the same place."""
    if world() == 1:
        return flag
    voted = torch.tensor(float(flag), device=device)
    dist.all_reduce(voted, dist.ReduceOp.MAX)
    return bool(voted.item())


def average(tensor: Tensor) -> Tensor:
    """The mean of a small tensor over all ranks, in place."""
    if world() > 1:
        dist.all_reduce(tensor)
        tensor /= world()
    return tensor


def minimum(tensor: Tensor) -> Tensor:
    """The smallest value of each element over all ranks, in place."""
    if world() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MIN)
    return tensor


def sync_gradients(params: Sequence[Tensor]) -> None:
    """Average the gradients over all ranks, and give each its parameter's strides.

    Gradients are concatenated in buckets of about 25 MiB. The strides matter on one process too: fused Adam on
    a CPU is silently wrong when a channels-last parameter meets a contiguous gradient.
    """
    for param in params:
        if param.grad is not None and param.grad.stride() != param.stride():
            param.grad = torch.empty_like(param).copy_(param.grad)
    if world() == 1:
        return
    bucket: list[Tensor] = []
    for grad in (p.grad for p in params if p.grad is not None):
        bucket.append(grad)
        if sum(g.numel() * g.element_size() for g in bucket) >= BUCKET:
            _average_bucket(bucket)
            bucket = []
    _average_bucket(bucket)


def _average_bucket(grads: list[Tensor]) -> None:
    if not grads:
        return
    flat = average(torch.cat([g.reshape(-1) for g in grads]))
    for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        grad.copy_(part.view(grad.shape))
