"""The state that a run resumes from: everything that the next step depends on, to the bit.

A state is a folder of safetensors files, so reading one can never run code:

    state.safetensors    weights, moments, averages, stored images of rank 0, unreported loss sums
    rank1.safetensors    stored images and loss sums of rank 1, and so on
    progress.json        format, images seen, ranks, and how long the logs were
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from twofold import distributed
from twofold.errors import TwofoldError
from twofold.files import sync, write_atomically
from twofold.methods.base import Method
from twofold.runs import Notify, Run
from twofold.training.adam import Adam
from twofold.training.stored_images import as_state, deal_out
from twofold.training.trainer import Trainer

FORMAT = 2
"""1, of twofold 0.1: stored images have names of their own; see `with_new_names`."""

KEEP = 2
"""States kept: the newest, and the one before in case the disk damages it."""

ASIDE = "writing-"
PRIVATE = ("memory/", "sums/")
"""What each rank has of its own."""

Tensors = dict[str, Tensor]


def save(run: Run, trainer: Trainer, progress: dict[str, Any]) -> None:
    """Write the state of all ranks beside the others, make it durable, then rename it.

    Raises:
        OSError, SafetensorError: the disk refused; the earlier states are complete.
    """
    folder = run.state(trainer.images)
    if folder.exists():  # saved at this image count already, when it was due or on a stop
        return
    aside, rank, tensors = folder.with_name(f"{ASIDE}{folder.name}"), distributed.rank(), content(trainer)
    try:
        if rank == 0:
            for left in folder.parent.glob(f"{ASIDE}*"):  # by processes that were killed
                shutil.rmtree(left)
            aside.mkdir(parents=True)
            store(tensors, aside / "state.safetensors")
            facts = {"format": FORMAT, "images": trainer.images, "ranks": distributed.world()}
            write_atomically(aside / "progress.json", json.dumps(facts | progress), durable=True)
        distributed.barrier()
        if rank != 0:
            own = {name: t for name, t in tensors.items() if name.startswith(PRIVATE)}
            store(own, aside / f"rank{rank}.safetensors")
        distributed.barrier()
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)  # makes room for the next try
        raise
    if rank == 0:
        sync(aside)
        aside.rename(folder)
        sync(folder.parent)
        for _, old in run.states()[:-KEEP]:
            shutil.rmtree(old)
    distributed.barrier()  # so that every rank sees the folder


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
    for images in distributed.from_rank_zero([images for images, _ in reversed(run.states())]):
        folder, found, reason = run.state(images), None, "another process cannot read its part"
        try:
            found = read(folder, trainer.method)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = f"{type(error).__name__}: {error}"
        if distributed.any_rank(found is None):
            damaged[folder] = reason
            continue
        assert found is not None
        progress, tensors = found
        try:
            restore(trainer, tensors)
        except (KeyError, RuntimeError) as error:
            raise TwofoldError(
                f"{folder} does not fit the networks in config.yaml; restore that file"
            ) from error
        trainer.images = images
        if (before := progress["ranks"]) != (now := distributed.world()):
            notify(
                f"resuming with {now} process{'es' * (now > 1)}, not {before}: stored images are dealt out again, and a"
                f" step sees {now / before:.3g} times as many images as before"
            )
        for each, reason in damaged.items():
            notify(f"cannot read the state at {int(each.name)} images ({reason}); loaded the one at {images}")
            if distributed.rank() == 0:  # so that its name is free and it is not read again
                away = each.with_name(f"damaged-{each.name}")
                shutil.rmtree(away, ignore_errors=True)
                each.rename(away)
        return progress
    if damaged:
        reasons = "; ".join(f"{folder.name}: {reason}" for folder, reason in damaged.items())
        raise TwofoldError(
            f"cannot read any state of {run.path} ({reasons}); start a new run with another --out"
        )
    return None


def read(folder: Path, method: Method) -> tuple[dict[str, Any], Tensors]:
    """The progress in a state, and this rank's tensors."""
    progress = json.loads((folder / "progress.json").read_bytes())
    ranks, version = progress["ranks"], progress.get("format", 1)
    if version > FORMAT:
        raise TwofoldError(
            f"{folder} has format {version}, this twofold reads up to {FORMAT}: update twofold"
        )
    shared, rank = load_file(folder / "state.safetensors"), distributed.rank()
    parts = [{name: shared.pop(name) for name in list(shared) if name.startswith(PRIVATE)}]
    wanted = range(1, ranks) if ranks != distributed.world() else [rank] if rank else []
    parts += [load_file(folder / f"rank{number}.safetensors") for number in wanted]
    if version == 1:
        parts = [with_new_names(part, method) for part in parts]
    own = parts[-1] if ranks == distributed.world() else for_other_ranks(parts, method)
    return progress, shared | own


def for_other_ranks(parts: list[Tensors], method: Method) -> Tensors:
    """What this rank has of its own, from that of every rank of another number."""
    means = [name for name in parts[0] if name.startswith("sums/")]
    dealt = {name: torch.stack([part[name] for part in parts]).mean(0) for name in means}
    for name, storage in method.image_storages().items():
        prefix = f"memory/{name}/"
        states = [under(prefix, part) for part in parts]
        dealt |= prefixed(prefix, deal_out(states, storage.capacity, distributed.rank(), distributed.world()))
    return dealt


def with_new_names(tensors: Tensors, method: Method) -> Tensors:
    """The tensors of a state of 0.1, with the stored images under the present names.

    0.1 has memory/replay_a/000000 (memory/000000 of CUT) and so on, and memory/real_a/rows for recent.real_a.
    """
    converted = {name: tensor for name, tensor in tensors.items() if not name.startswith("memory/")}
    for name, storage in method.image_storages().items():
        saved = under(f"memory/{name.removeprefix('recent.')}/", tensors)
        if not saved and name == "replay_b":
            saved = {k: t for k, t in under("memory/", tensors).items() if k.isdigit()}
        if "rows" not in saved:
            images = [saved[place] for place in sorted(saved)]
            one_size = len({image.shape for image in images}) == 1
            saved = as_state(images, storage.capacity + 1 if one_size else 0)  # the last row is not in use
        converted |= prefixed(f"memory/{name}/", saved)
    return converted


def content(trainer: Trainer) -> Tensors:
    """Every tensor of this rank's state, by name."""
    tensors = prefixed("sums/", trainer.sums.state())
    for prefix, module in modules(trainer).items():
        tensors |= prefixed(prefix, module.state_dict())
    for prefix, optimizer, param in moments(trainer):
        tensors |= prefixed(prefix, optimizer.state.get(param, {}))
    for phase, scaler in trainer.scalers.items():
        if scaler.is_enabled():
            state = scaler.state_dict()
            tensors[f"scaler/{phase}"] = torch.tensor([state["scale"], state["_growth_tracker"]])
    return tensors


def restore(trainer: Trainer, tensors: Tensors) -> None:
    """Load what `content` gave into a trainer that was built alike."""
    trainer.sums.restore(under("sums/", tensors))
    for prefix, module in modules(trainer).items():
        module.load_state_dict(under(prefix, tensors))
    for prefix, optimizer, param in moments(trainer):
        on_device = optimizer.defaults["fused"] or optimizer.defaults["capturable"]
        counter = param.device if on_device else torch.device("cpu")
        for name, saved in under(prefix, tensors).items():
            strided = torch.empty_like(param, requires_grad=False)  # as fused Adam relies on
            optimizer.state[param][name] = saved.to(counter) if name == "step" else strided.copy_(saved)
    for phase, scaler in trainer.scalers.items():
        if scaler.is_enabled():
            scale, steps = tensors[f"scaler/{phase}"].tolist()
            scaler.load_state_dict(scaler.state_dict() | {"scale": scale, "_growth_tracker": int(steps)})


def modules(trainer: Trainer) -> dict[str, nn.Module]:
    """Every module that is saved, by the prefix of its tensors."""
    method = trainer.method
    return {
        **{f"method/{name}.": network for name, network in method.networks().items()},
        **{f"average/{name}/": average for name, average in trainer.averages.items()},
        **{f"memory/{name}/": storage for name, storage in method.image_storages().items()},
    }


def moments(trainer: Trainer) -> Iterator[tuple[str, Adam, Tensor]]:
    """Every trained parameter with its optimizer and the prefix of its moments."""
    for phase, optimizer in trainer.optimizers.items():
        for place, param in enumerate(trainer.params[phase]):
            yield f"adam/{phase}/{place}/", optimizer, param


def prefixed(prefix: str, tensors: dict[str, Any]) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
