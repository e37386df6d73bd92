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
from collections.abc import Callable, Iterator
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

ASIDE = "writing-"
PRIVATE = ("memory/", "sums/")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a full quota, a limit on file sizes."""

Tensors = dict[str, Tensor]


def save(run: Run, trainer: Trainer, progress: dict[str, Any]) -> None:
    """Write the state of all ranks beside the others, make it durable, then give it its name.

    Raises:
        TwofoldError: no space is left; the states before are whole.
    """
    folder = run.state(trainer.images)
    if folder.exists():  # saved at this very count already, when it was due or on a stop
        return
    aside = folder.with_name(f"{ASIDE}{folder.name}")
    with room_left(run.path):
        if distributed.rank() == 0:
            sweep(folder.parent)
            aside.mkdir(parents=True)
            store(shared(trainer) | private(trainer), aside / "state.safetensors")
            text = json.dumps({"images": trainer.images, "ranks": distributed.world()} | progress)
            store_bytes(text.encode(), aside / "progress.json")
        distributed.barrier()
        if distributed.rank() != 0:
            store(private(trainer), aside / f"rank{distributed.rank()}.safetensors")
        distributed.barrier()
        if distributed.rank() == 0:
            sync_folder(aside)
            aside.rename(folder)
            sync_folder(folder.parent)
            for _, old in run.states()[:-KEEP]:
                shutil.rmtree(old)
    distributed.barrier()  # so that every rank sees the folder when it asks again


def load(run: Run, trainer: Trainer, notify: Callable[[str], None]) -> dict[str, Any] | None:
    """Put the newest whole state into `trainer`; its progress, or None where there is no state.

    States that cannot be read are passed over, renamed, and said.

    Raises:
        TwofoldError: there are states, but none can be read, or they belong to another number of ranks.
    """
    damaged: dict[Path, str] = {}
    for images, folder in reversed(run.states()):
        content, reason = None, "another process cannot read its part"
        try:
            content = read(run, folder)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = f"{type(error).__name__}: {error}"
        if distributed.any_rank(content is None, trainer.device):
            damaged[folder] = reason
            continue
        assert content is not None
        progress, tensors = content
        try:
            restore(trainer, tensors)
        except (KeyError, RuntimeError) as error:
            raise TwofoldError(f"{folder} is not of the networks in config.yaml; restore that") from error
        trainer.images = images
        for each, reason in damaged.items():
            notify(f"the state at {int(each.name)} images cannot be read ({reason}); the one at {images} can")
            put_away(each)
        return progress
    if damaged:
        reasons = "; ".join(f"{folder.name}: {reason}" for folder, reason in damaged.items())
        raise TwofoldError(f"no state of {run.path} can be read ({reasons}); start anew elsewhere")
    return None


def read(run: Run, folder: Path) -> tuple[dict[str, Any], Tensors]:
    """The progress in a state, and this rank's tensors."""
    progress = json.loads((folder / "progress.json").read_bytes())
    if progress["ranks"] != distributed.world():
        raise TwofoldError(
            f"{run.path} was trained by {progress['ranks']} processes; resume it with as many (torchrun"
            f" --nproc-per-node={progress['ranks']})"
        )
    tensors = load_file(folder / "state.safetensors")
    if rank := distributed.rank():
        shared_alone = {k: t for k, t in tensors.items() if not k.startswith(PRIVATE)}
        tensors = shared_alone | load_file(folder / f"rank{rank}.safetensors")
    return progress, tensors


def put_away(damaged: Path) -> None:
    """Rename a state that cannot be read, so that its name is free and it counts no more."""
    if distributed.rank() == 0:
        away = damaged.with_name(f"damaged-{damaged.name}")
        shutil.rmtree(away, ignore_errors=True)
        damaged.rename(away)


def sweep(states: Path) -> None:
    """Remove what saves that were killed have left."""
    for left in states.glob(f"{ASIDE}*"):
        shutil.rmtree(left)


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
            on_device = optimizer.defaults["fused"] or optimizer.defaults["capturable"]
            counter = param.device if on_device else torch.device("cpu")
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
    """Turn "no space left" into one line that says where, and make room for what is to be tried again."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not any(os.strerror(code) in str(error) for code in FULL):
            raise
        sweep(folder / "states")
        raise TwofoldError(
            f"no space left under {folder}: free some and run the same command again; nothing saved was lost"
        ) from error
