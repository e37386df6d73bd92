"""The state a run resumes from: everything that the next step depends on, to the bit.

A state is a folder of safetensors files, so reading one can never run code:

    state.safetensors    weights, moments, averages, replay buffers of rank 0, unreported loss sums
    rank1.safetensors    replay buffers and loss sums of rank 1, and so on
    progress.json        images seen, ranks, and how long the logs were
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from twofold import distributed
from twofold.errors import TwofoldError
from twofold.runs import Run
from twofold.training.trainer import Trainer

KEEP = 2
"""States kept: the newest, and the one before in case a disk fails us."""

Tensors = dict[str, Tensor]


def save(run: Run, trainer: Trainer, progress: dict[str, Any]) -> None:
    """Write the state of all ranks beside the others, make it durable, then give it its name.

    Raises:
        TwofoldError: no space is left; the states before are whole.
    """
    folder = run.state(trainer.images)
    aside = folder.with_name(f"writing-{folder.name}")
    with room_left(folder.parent):
        if distributed.rank() == 0:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            store(shared(trainer) | private(trainer), aside / "state.safetensors")
            text = json.dumps({"images": trainer.images, "ranks": distributed.world()} | progress)
            store_bytes(text.encode(), aside / "progress.json")
        distributed.barrier()
        if distributed.rank() != 0:
            store(private(trainer), aside / f"rank{distributed.rank()}.safetensors")
        distributed.barrier()
        if distributed.rank() == 0 and not folder.exists():
            sync_folder(aside)
            aside.rename(folder)
            sync_folder(folder.parent)
            for _, old in run.states()[:-KEEP]:
                shutil.rmtree(old)


def load(run: Run, trainer: Trainer) -> dict[str, Any] | None:
    """Put the newest whole state into `trainer`; its progress, or None where there is no state.

    Raises:
        TwofoldError: there are states, but none can be read, or they belong to another number of ranks.
    """
    found = run.states()
    reasons = []
    for images, folder in reversed(found):
        try:
            progress = json.loads((folder / "progress.json").read_bytes())
            tensors = load_file(folder / "state.safetensors")
            if rank := distributed.rank():
                tensors |= load_file(folder / f"rank{rank}.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            reasons.append(f"{folder.name}: {error}")
            continue
        if progress["ranks"] != distributed.world():
            raise TwofoldError(
                f"{run.path} was trained by {progress['ranks']} processes; resume it with as many (torchrun"
                f" --nproc-per-node={progress['ranks']})"
            )
        restore(trainer, tensors)
        trainer.images = images
        return progress
    if found:
        raise TwofoldError(f"no state of {run.path} can be read ({'; '.join(reasons)}); start anew elsewhere")
    return None


def shared(trainer: Trainer) -> Tensors:
    """What is the same on every rank."""
    tensors = prefixed("method", trainer.method.state_dict())
    for name, average in trainer.averages.items():
        tensors |= prefixed(f"average/{name}", average.state_dict())
    for phase, optimizer in trainer.optimizers.items():
        for place, param in enumerate(trainer.params[phase]):
            tensors |= prefixed(f"adam/{phase}/{place}", optimizer.state.get(param, {}))
    return tensors


def private(trainer: Trainer) -> Tensors:
    """What each rank has of its own."""
    return prefixed("memory", trainer.method.memory()) | prefixed("sums", trainer.sums.state())


def restore(trainer: Trainer, tensors: Tensors) -> None:
    """Put what `shared` and `private` gave into a trainer built alike."""
    trainer.method.load_state_dict(under("method", tensors))
    for name, average in trainer.averages.items():
        average.load_state_dict(under(f"average/{name}", tensors))
    for phase, optimizer in trainer.optimizers.items():
        for place, param in enumerate(trainer.params[phase]):
            moments = under(f"adam/{phase}/{place}", tensors)
            counter = param.device if optimizer.defaults["fused"] else torch.device("cpu")
            optimizer.state[param] = {
                name: saved.to(counter) if name == "step" else like(param, saved)
                for name, saved in moments.items()
            }
    device = trainer.device
    trainer.method.recall({name: saved.to(device) for name, saved in under("memory", tensors).items()})
    trainer.sums.restore(under("sums", tensors))


def like(param: Tensor, saved: Tensor) -> Tensor:
    """A saved moment on its parameter's device and with its strides, which fused Adam relies on."""
    return torch.empty_like(param, requires_grad=False).copy_(saved)


def prefixed(prefix: str, tensors: dict[str, Any]) -> Tensors:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {k.removeprefix(prefix + "/"): t for k, t in tensors.items() if k.startswith(prefix + "/")}


def store(tensors: Tensors, path: Path) -> None:
    """Write tensors durably; contiguous, as safetensors wants them."""
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def store_bytes(content: bytes, path: Path) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def room_left(folder: Path) -> Iterator[None]:
    """Turn "no space left" into one line that says where."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        if not full:
            raise
        raise TwofoldError(
            f"no space left under {folder}: free some and run the same command again; nothing saved was lost"
        ) from error
