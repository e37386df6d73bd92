"""What a run uses of its machine: device, precision, compiling, capture, C code, threads, layout, checkpointing.

Every setting that is left open is chosen once, at the first start, and written to config.yaml. A resumed run keeps the
choice, except for settings that only affect speed or memory and that its machine cannot have: they are chosen again.
"""

import shutil
from importlib.util import find_spec
from typing import Any

import torch

from twofold import config as configs
from twofold import hardware
from twofold.config import Config, Layer
from twofold.cpu import native
from twofold.distributed import launched, local_rank, world
from twofold.errors import UsageError
from twofold.losses.patchnce import PatchHeads
from twofold.methods.base import Method
from twofold.networks.layers import Discriminator, Generator
from twofold.networks.resnet import ResnetGenerator
from twofold.runs import Notify
from twofold.training import memory
from twofold.training.settings import MachineSettings

COMPILING_PAYS = 2_000 * 256**2
"""Pixels, over all images of a run, from which a GPU saves more time than compiling takes. Not measured. On a CPU our
convolutions are faster than compiled ones (docs/performance.md)."""

CHECKPOINT_SHARE = 0.6
"""The share of the free memory that a step may need before residual blocks are checkpointed."""

UNDECIDED = MachineSettings().model_dump(
    include={"compile", "capture", "native", "channels_last", "fused", "checkpoint"}
)
"""The speed settings that are chosen for a device, as they are before the choice."""


def choose(config: Config, total: int, notify: Notify) -> Config:
    """Fill in every machine setting that is left open.

    Args:
        total: images that the run will see.
    """
    given = config.machine
    device = hardware.pick_device(given.device, local_rank())
    pays = device.type == "cuda" and total * config.data.size**2 >= COMPILING_PAYS
    config = fill_in(
        config,
        device=device.type,
        precision="bf16" if hardware.fast_bf16(device) else "float32",
        threads=torch.get_num_threads(),
        fused=device.type in ("cpu", "cuda"),
        compile="on" if pays and can_compile(device) else "off",
        native=can_use_native(device),
    )
    config = fill_in(config, channels_last=device.type == "cpu" or config.machine.precision != "float32")
    config = fill_in(config, checkpoint=choose_checkpoint(config, device, notify))
    config = fill_in(config, capture=given.compile != "off" and can_capture(config, device))
    refuse_impossible(config, device)
    return config


def fill_in(config: Config, **automatic: Any) -> Config:
    """The config with these machine settings where they are left open."""
    left_open = {name for name in automatic if getattr(config.machine, name) in (None, "auto")}
    return with_machine(config, {name: automatic[name] for name in left_open})


def with_machine(config: Config, changes: dict[str, Any]) -> Config:
    return configs.compose(config.model_dump(), {"machine": changes})


def refuse_impossible(config: Config, device: torch.device) -> None:
    """Refuse the user's settings that this machine cannot have."""
    used = config.machine
    if used.compile == "on" and not can_compile(device):
        needed = "a C++ compiler" + (" and Triton" if device.type == "cuda" else "")
        raise UsageError(f"machine.compile on needs {needed}, which is not installed; use auto or off")
    if used.native and not can_use_native(device):
        raise UsageError("machine.native true needs a CPU, Linux and gcc; leave it out or use false")
    if used.capture and not can_capture(config, device):
        raise UsageError(
            "machine.capture true needs CUDA, one process, images of one size, training.accumulate 1, no"
            " machine.checkpoint with dropout, and machine.fused for fp16; leave it out or use false"
        )


def choose_checkpoint(config: Config, device: torch.device, notify: Notify) -> bool:
    """Checkpointing, which makes a step take 1.2 times as long, only where memory is short."""
    free = hardware.free_memory(device)
    if free is None or config.machine.checkpoint is not None:
        return False
    if config.machine.capture and config.generator.dropout:
        return False
    need = memory.estimate_step(with_machine(config, {"checkpoint": False})).total
    if need <= CHECKPOINT_SHARE * free:
        return False
    less = memory.estimate_step(with_machine(config, {"checkpoint": True})).total
    if less > free or less >= need:
        return False
    gib = [f"{size / 2**30:.1f}" for size in (need, free, less)]
    notify(
        f"checkpointing residual blocks: a step needs about {gib[0]} GiB of {gib[1]} free, {gib[2]} with"
        " checkpointing; --machine.no-checkpoint turns it off"
    )
    return True


# ---- what this machine can do


def can_compile(device: torch.device) -> bool:
    """Whether torch finds its compilers: a C++ compiler, and Triton for CUDA."""
    compiler = any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    return compiler and (device.type != "cuda" or find_spec("triton") is not None)


def can_use_native(device: torch.device) -> bool:
    """Whether convolutions can run as C code here."""
    return device.type == "cpu" and native.available()


def can_capture(config: Config, device: torch.device) -> bool:
    """Whether each step can run as one CUDA graph.

    Not where dropout is computed twice: the generator's state cannot be read while a graph is recorded. fp16 needs
    Adam's fused kernel, which leaves out a step with infinite gradients without asking the device.
    """
    used = config.machine
    redraws = used.checkpoint and config.generator.dropout
    waits = used.precision == "fp16" and not used.fused
    simple = config.data.crops and config.training.accumulate == 1
    return device.type == "cuda" and world() == 1 and simple and not redraws and not waits


# ---- resuming, perhaps on another machine


def device_of(stored: Config | None, overrides: Layer) -> torch.device:
    """The device of this process, for a new run or for one that continues."""
    name = str(configs.get(overrides, "machine.device") or "auto")
    if name == "auto" and stored is not None and is_here(stored.machine.device):
        name = stored.machine.device
    if launched():
        refuse_shared_gpu(name)
    return hardware.pick_device(name, local_rank())


def refuse_shared_gpu(device: str) -> None:
    """Refuse one GPU for several processes, by its number or for want of others."""
    if device.startswith("cuda:"):
        raise UsageError(f"--device {device} names one GPU for several processes; use --device cuda")
    found = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if local_rank() >= found > 0:
        raise UsageError(
            f"process {local_rank()} has no GPU: this machine has {found}; start it with --nproc-per-node={found}"
        )


def is_here(device: str) -> bool:
    try:
        hardware.pick_device(device, local_rank())
    except UsageError:
        return False
    return True


def choose_again(stored: Config, config: Config, overrides: Layer, total: int, notify: Notify) -> Config:
    """Choose again the speed settings that this machine cannot have, and print every change in one line.

    Args:
        stored: what the run used so far.
        config: the same with `overrides`, the user's changes. They are not replaced.
    """
    device = device_of(stored, overrides)
    given = [path for path, value in configs.flatten(overrides) if value not in (None, "auto")]
    again: dict[str, Any] = {}
    if not is_here(config.machine.device):
        again["device"] = device.type
    if stored.machine.device.split(":")[0] != device.type:
        again |= UNDECIDED
    if config.machine.compile == "on" and not can_compile(device):
        again["compile"] = "auto"
    if config.machine.native and not can_use_native(device):
        again["native"] = None
    if config.machine.capture and not can_capture(config, device):
        again["capture"] = None
    again = {name: value for name, value in again.items() if f"machine.{name}" not in given}
    chosen = choose(with_machine(config, again), total, notify)
    before, after = stored.machine.model_dump(), chosen.machine.model_dump()
    changed = [name for name in after if before[name] not in (None, after[name])]
    if changed:
        listed = ", ".join(f"{name} {before[name]} -> {after[name]}" for name in changed)
        notify(
            f"machine settings changed since the last start, results may differ in the last bits: {listed}"
        )
    return chosen


# ---- compiled networks


def compile_networks(method: Method) -> None:
    """Compile each network's call, in place: parameters and their names stay as they are.

    Discriminators whose gradient is penalised are left out: a compiled network has no second derivative.
    """
    kinds = (Generator, PatchHeads) if method.penalises_gradients else (Generator, PatchHeads, Discriminator)
    for network in method.networks().values():
        if isinstance(network, kinds):
            network.compile(dynamic=False)
        if isinstance(network, ResnetGenerator):  # CUT calls these
            for name in ("forward_with_features", "features"):
                setattr(network, name, torch.compile(getattr(network, name), dynamic=False))
