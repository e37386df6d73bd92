"""Several processes that train one model, by torch.distributed under torchrun.

With one process, the common case, every function here does nothing.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from twofold.errors import TwofoldError

STEP_TIMEOUT = timedelta(minutes=10)
"""How long a process waits in a step for the others before it ends with an error."""

PATIENCE = timedelta(hours=3)
"""How long processes wait between steps: the first decodes two large folders, and evaluates."""

_patient: Any = None
"""A group of all processes for what may take long. It is gloo's: its waiting ends in time on a GPU's machine too."""


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Inside, this process is one of the group that torchrun describes in the environment, or of the caller's."""
    global _patient
    own, on_gpu = "RANK" in os.environ and not dist.is_initialized(), device.type == "cuda"
    if own:
        if on_gpu:
            torch.cuda.set_device(device)  # used by broadcasts
        backend, place = ("nccl", device) if on_gpu else ("gloo", None)
        with explained_loss():
            store, rank, world = next(dist.rendezvous("env://", timeout=STEP_TIMEOUT))  # pyright: ignore[reportPrivateImportUsage]
            # torchrun keeps one store over restarts, where gloo would find the addresses of processes that have ended
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = dist.PrefixStore(attempt, store)  # pyright: ignore[reportPrivateImportUsage]
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=world, timeout=STEP_TIMEOUT, device_id=place
            )
    if dist.is_initialized():
        with explained_loss():
            _patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group(None if own else _patient)
        _patient = None


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """This process's number on its machine, which selects its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launcher() -> str:
    """The beginning of the command that starts as many processes on as many machines as there are now."""
    if not launched():
        return "twofold"
    world_size = int(os.environ["WORLD_SIZE"])
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    words = ["torchrun", f"--nproc-per-node={here}"]
    if (nodes := world_size // here) > 1:
        address = os.environ.get("MASTER_ADDR", "HOST")
        words += [f"--nnodes={nodes} --rdzv-backend=c10d --rdzv-endpoint={address}:29400"]
    return " ".join([*words, "-m twofold"])


# ---- waiting for each other, between steps


def barrier() -> None:
    """Wait until every rank is here."""
    if world() > 1:
        with explained_loss():
            dist.barrier(_patient)


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the block on rank 0, then on the others, which find what rank 0 has written.

    Raises:
        TwofoldError: on the others, if rank 0 has failed.
    """
    if rank() != 0:
        if not from_rank_zero(False):
            raise TwofoldError("the first process has failed; see its message")
        yield
        return
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        from_rank_zero(succeeded)


def from_rank_zero(fact: Any) -> Any:
    """Rank 0's `fact`, a plain object, on every rank."""
    if world() == 1:
        return fact
    facts = [fact]
    with explained_loss():
        dist.broadcast_object_list(facts, group=_patient, device=torch.device("cpu"))
    return facts[0]


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on any rank. Every rank must call it at the same place."""
    if world() == 1:
        return flag
    voted = torch.tensor(float(flag))
    with explained_loss():
        dist.all_reduce(voted, dist.ReduceOp.MAX, _patient)
    return bool(voted.item())


# ---- in steps


def average(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all ranks, in place."""
    if world() > 1:
        with explained_loss():
            dist.all_reduce(tensor)
        tensor /= world()
    return tensor


def minimum(tensor: Tensor) -> Tensor:
    """The smallest value of each element over all ranks, in place."""
    if world() > 1:
        with explained_loss():
            dist.all_reduce(tensor, dist.ReduceOp.MIN)
    return tensor


def sync_gradients(params: Sequence[Tensor]) -> None:
    """Average the gradients over all ranks, in one all-reduce, and give each its parameter's strides.

    The strides matter on one process too: fused Adam on a CPU is silently wrong when a channels-last parameter meets a
    contiguous gradient.
    """
    for param in params:
        if param.grad is not None and param.grad.stride() != param.stride():
            param.grad = torch.empty_like(param).copy_(param.grad)
    grads = [param.grad for param in params if param.grad is not None]
    if world() == 1 or not grads:
        return
    flat = average(torch.cat([grad.detach().reshape(-1) for grad in grads]))
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view(grad.shape))


@contextmanager
def explained_loss() -> Iterator[None]:
    """Turn the error of a collective whose other processes have ended, or are late, into one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # DistBackendError and gloo's errors are such
        reason = re.sub(r"^\[\S+:\d+\] ", "", str(error).partition("\n")[0])  # the place in torch's source
        reason = reason.partition(". ")[0]
        raise TwofoldError(
            f"another process has ended or does not answer; see its message, then resume the run ({reason})"
        ) from error
