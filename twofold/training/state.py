"""The state that a run resumes from: everything that the next step depends on, to the bit.

A state is a folder of safetensors files, so reading one can never run code:

    state.safetensors    weights, moments, averages, stored images of rank 0, unreported loss sums
    rank1.safetensors    stored images and loss sums of rank 1, and so on
    progress.json        format, images seen, ranks, and how long the logs were
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from twofold import distributed
from twofold.errors import TwofoldError
from twofold.files import sync, write_atomically
from twofold.methods.base import Method
from twofold.runs import Notify, Run
from twofold.training.trainer import Trainer

FORMAT = 2
"""1, of twofold 0.1: stored images have names of their own; see `with_new_names`."""

KEEP = 2
"""States kept: the newest, and the one before in case the disk damages it."""

ASIDE = "writing-"
PRIVATE = ("memory/", "sums/")

Tensors = dict[str, Tensor]


def save(run: Run, trainer: Trainer, progress: dict[str, Any]) -> None:
    """Write the state of all ranks beside the others, make it durable, then rename it.

    Raises:
        OSError, SafetensorError: the disk refused; the earlier states are complete.
    """
    folder = run.state(trainer.images)
    if folder.exists():  # saved at this image count already, when it was due or on a stop
        return
    aside = folder.with_name(f"{ASIDE}{folder.name}")
    try:
        write(aside, trainer, progress)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)  # makes room for the next try
        raise
    if distributed.rank() == 0:
        aside.rename(folder)
        sync(folder.parent)
        for _, old in run.states()[:-KEEP]:
            shutil.rmtree(old)
    distributed.barrier()  # so that every rank sees the folder


def write(folder: Path, trainer: Trainer, progress: dict[str, Any]) -> None:
    if distributed.rank() == 0:
        for left in folder.parent.glob(f"{ASIDE}*"):  # by processes that were killed
            shutil.rmtree(left)
        folder.mkdir(parents=True)
        store(shared(trainer) | private(trainer), folder / "state.safetensors")
        facts = {"format": FORMAT, "images": trainer.images, "ranks": distributed.world()}
        write_atomically(folder / "progress.json", json.dumps(facts | progress), durable=True)
    distributed.barrier()
    if distributed.rank() != 0:
        store(private(trainer), folder / f"rank{distributed.rank()}.safetensors")
    distributed.barrier()
    if distributed.rank() == 0:
        sync(folder)


def store(tensors: Tensors, path: Path) -> None:
    """Write tensors durably; contiguous, as safetensors needs them."""
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    sync(path)


def load(run: Run, trainer: Trainer, notify: Notify) -> dict[str, Any] | None:
    """Load the newest readable state into `trainer`.

    States that cannot be read are skipped, renamed, and printed.

    Returns:
        Its progress, or None where there is no state.

    Raises:
        TwofoldError: there are states, but none can be read, or they do not fit the run.
    """
    damaged: dict[Path, str] = {}
    for images, folder in reversed(run.states()):
        content, reason = None, "another process cannot read its part"
        try:
            content = read(run, folder, trainer.method)
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
            raise TwofoldError(
                f"{folder} does not fit the networks in config.yaml; restore that file"
            ) from error
        trainer.images = images
        for each, reason in damaged.items():
            notify(f"cannot read the state at {int(each.name)} images ({reason}); loaded the one at {images}")
            rename_damaged(each)
        return progress
    if damaged:
        reasons = "; ".join(f"{folder.name}: {reason}" for folder, reason in damaged.items())
        raise TwofoldError(
            f"cannot read any state of {run.path} ({reasons}); start a new run with another --out"
        )
    return None


def read(run: Run, folder: Path, method: Method) -> tuple[dict[str, Any], Tensors]:
    """The progress in a state, and this rank's tensors."""
    progress = json.loads((folder / "progress.json").read_bytes())
    if progress["ranks"] != distributed.world():
        raise TwofoldError(
            f"{run.path} was trained by {progress['ranks']} processes; resume it with as many (torchrun"
            f" --nproc-per-node={progress['ranks']})"
        )
    version = progress.get("format", 1)
    if version > FORMAT:
        raise TwofoldError(
            f"{folder} has format {version}, this twofold reads up to {FORMAT}: update twofold"
        )
    tensors = load_file(folder / "state.safetensors")
    if rank := distributed.rank():
        shared_alone = {k: t for k, t in tensors.items() if not k.startswith(PRIVATE)}
        tensors = shared_alone | load_file(folder / f"rank{rank}.safetensors")
    return progress, with_new_names(tensors, method) if version == 1 else tensors


def with_new_names(tensors: Tensors, method: Method) -> Tensors:
    """The tensors of a state of 0.1, with the stored images under today's names.

    0.1 kept each image of a replay buffer under its place (memory/replay_a/000000; memory/000000 of CUT), and recent
    images as memory/real_a/rows and memory/real_a/count.
    """
    converted = {name: tensor for name, tensor in tensors.items() if not name.startswith("memory/")}
    for name, storage in method.image_storages().items():
        saved = under(f"memory/{name.removeprefix('recent.')}", tensors)
        if not saved and name == "replay_b":
            saved = {k: t for k, t in under("memory", tensors).items() if k.isdigit()}
        state = {f"image_{place}": image for place, image in saved.items() if place.isdigit()}
        count = torch.tensor([len(state)])
        if len({image.shape for image in state.values()}) == 1:  # of one size: rows, the last not in use
            images = torch.cat([state[place] for place in sorted(state)])
            empty = images.new_zeros(storage.capacity + 1 - len(images), *images.shape[1:])
            state = {"rows": torch.cat((images, empty))}
        state = {"count": count} | state | {k: t for k, t in saved.items() if not k.isdigit()}
        converted |= prefixed(f"memory/{name}", state)
    return converted


def rename_damaged(folder: Path) -> None:
    """Rename a state that cannot be read, so that its name is free and it is not read again."""
    if distributed.rank() == 0:
        away = folder.with_name(f"damaged-{folder.name}")
        shutil.rmtree(away, ignore_errors=True)
        folder.rename(away)


def shared(trainer: Trainer) -> Tensors:
    """The tensors that are equal on every rank."""
    tensors: Tensors = {}
    for name, network in trainer.method.networks().items():
        tensors |= {f"method/{name}.{key}": tensor for key, tensor in network.state_dict().items()}
    for name, average in trainer.averages.items():
        tensors |= prefixed(f"average/{name}", average.state_dict())
    for phase, optimizer in trainer.optimizers.items():
        for place, param in enumerate(trainer.params[phase]):
            tensors |= prefixed(f"adam/{phase}/{place}", optimizer.state.get(param, {}))
    return tensors


def private(trainer: Trainer) -> Tensors:
    """The tensors that each rank has of its own."""
    tensors = prefixed("sums", trainer.sums.state())
    for name, storage in trainer.method.image_storages().items():
        tensors |= prefixed(f"memory/{name}", storage.state_dict())
    return tensors


def restore(trainer: Trainer, tensors: Tensors) -> None:
    """Load the tensors of `shared` and `private` into a trainer that was built alike."""
    for name, network in trainer.method.networks().items():
        network.load_state_dict(under(f"method/{name}", tensors, "."))
    for name, average in trainer.averages.items():
        average.load_state_dict(under(f"average/{name}", tensors))
    for phase, optimizer in trainer.optimizers.items():
        for place, param in enumerate(trainer.params[phase]):
            moments = under(f"adam/{phase}/{place}", tensors)
            on_device = optimizer.defaults["fused"] or optimizer.defaults["capturable"]
            counter = param.device if on_device else torch.device("cpu")
            optimizer.state[param] = {
                name: saved.to(counter) if name == "step" else with_strides_of(param, saved)
                for name, saved in moments.items()
            }
    for name, storage in trainer.method.image_storages().items():
        storage.load_state_dict(under(f"memory/{name}", tensors))
    trainer.sums.restore(under("sums", tensors))


def with_strides_of(param: Tensor, saved: Tensor) -> Tensor:
    """A saved moment on its parameter's device and with its strides, which fused Adam relies on."""
    return torch.empty_like(param, requires_grad=False).copy_(saved)


def prefixed(prefix: str, tensors: dict[str, Any]) -> Tensors:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Tensors, separator: str = "/") -> Tensors:
    start = prefix + separator
    return {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
