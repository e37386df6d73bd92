"""A training, from two folders to a finished run. Read `train` from top to bottom."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from twofold import config as configs
from twofold import distributed, hardware
from twofold.config import Config, Layer
from twofold.cpu import scratch
from twofold.data.dataset import open_images
from twofold.data.loader import Loader
from twofold.data.manifest import Manifest
from twofold.errors import TwofoldError
from twofold.evaluation.features import own_network
from twofold.methods.base import Batch
from twofold.reporting import exporters
from twofold.reporting.records import NOTHING_YET, Records, over
from twofold.runs import Run
from twofold.training import memory, start, state
from twofold.training.build import build, perceptual
from twofold.training.session import interruptible, locked, own_torch_state
from twofold.training.start import Notify, Start
from twofold.training.trainer import Trainer

RESIDENT_SHARE = 0.25
"""Of the free memory of a GPU, how much the decoded images may fill to be kept there."""

COMPILED = ", compiled (the first steps take minutes)"

AGREE_EVERY = 16
"""Steps between the moments at which several processes agree on whether one was asked to stop."""


class Watcher(Protocol):
    """Whoever follows a training: the terminal, a log, nobody."""

    def notify(self, line: str) -> None:
        """Something worth a line."""
        ...

    def progress(self, images: int, total: int, rate: float, losses: dict[str, float]) -> None:
        """Called after each step; `rate` in images/s since the start, `losses` as last reported."""
        ...


def train(out: Path, said: Layer, watcher: Watcher) -> bool:
    """Start the run in `out`, or go on with it; whether it is finished, rather than interrupted.

    Args:
        out: the run folder, created where it is not there.
        said: settings as a nested mapping, with `a` and `b`, as far as anybody said something.
        watcher: is told what happens.

    Raises:
        UsageError: the folders or settings are wrong, or differ from the run's; nothing is written.
        TwofoldError: the run cannot go on; the message says why, and from where it can.
    """
    run = Run(out)
    with group(start.device(run, said)), ExitStack() as session:
        first = distributed.rank() == 0
        notify = watcher.notify if first else lambda line: None  # noqa: ARG005
        with distributed.rank_zero_first():
            fresh = not run.exists
            begun = start.new(run, said, notify) if fresh else start.again(run, said)
            exporters.check(begun.config.training.log)
            if fresh:
                check_networks(begun.config)
                check_memory(begun)  # the last that can refuse, before anything is written
            if first:
                session.enter_context(locked(run.lock))
            if first and fresh:
                start.write(run, begun)
        return follow(run, begun, watcher, notify)


def follow(run: Run, begun: Start, watcher: Watcher, notify: Notify) -> bool:
    """Train from the newest state, or from nothing, to the end of the schedule or until asked to stop."""
    config, total = begun.config, begun.schedule.total
    with (
        interruptible() as stop,
        own_torch_state(
            config.machine.threads or 1, config.machine.deterministic, one_size=config.data.resize != "none"
        ),
        out_of_memory(begun),
        scratch_memory(),
    ):
        with distributed.rank_zero_first():
            stores = open_images(begun.files, config.data, notify)
        trainer = trainer_for(begun, notify)
        if trainer.device.type == "cuda":
            room = RESIDENT_SHARE * (hardware.free_memory(trainer.device) or 0)
            stores = stores.resident(trainer.device, int(room))
        progress = state.load(run, trainer, notify)
        if trainer.images >= total:
            if distributed.rank() == 0:
                exporters.catch_up(config.training.log, run, notify)
            notify(
                f"{run.path} is finished with {trainer.images} images; --epochs or --decay-epochs makes it longer"
            )
            return True
        if progress and over(progress.get("best", NOTHING_YET), config.evaluation.patience):
            notify(stopped_early(run, trainer.images))
            return True
        notify(started(begun, trainer))
        if distributed.rank() == 0:
            start.replace(run.config, configs.to_yaml(config))
            start.note_environment(run, trainer.images, trainer.device)
        records = Records(run, begun, trainer, stores, progress or {}, notify)
        with (
            closing(records),
            Loader(
                stores.a,
                stores.b,
                config.data,
                config.seed,
                batch=config.training.batch,
                device=trainer.device,
                paired=begun.files.paired,
                rank=distributed.rank(),
                world=distributed.world(),
                start=trainer.images,
            ) as batches,
        ):
            records.start_clock(batches)
            for steps, (a, b, mask_a, mask_b) in enumerate(batches, 1):
                before = trainer.images
                trainer.step(Batch(a, b, mask_a=mask_a, mask_b=mask_b), begun.schedule.rate(before))
                records.after_step(before)
                if distributed.rank() == 0:
                    watcher.progress(trainer.images, total, records.rate(), records.losses)
                if records.ended:
                    if trainer.images < total:
                        notify(stopped_early(run, trainer.images))
                    break
                if asked_to_stop(stop.asked, steps, trainer.device):
                    records.save_state()
                    notify(f"stopped at {trainer.images} of {total} images; everything is saved")
                    return False
    return True


def trainer_for(begun: Start, notify: Notify) -> Trainer:
    config = begun.config
    machine, optim = config.machine, config.optim
    return Trainer(
        build(config),
        device=hardware.pick_device(machine.device, distributed.local_rank()),
        precision=machine.precision,
        lr=optim.lr,
        disc_lr=optim.disc_lr,
        betas=(optim.beta1, optim.beta2),
        fused=bool(machine.fused),
        channels_last=bool(machine.channels_last),
        ema=config.training.ema,
        compiled=machine.compile == "on",
        kernels=bool(machine.native),
        captured=bool(machine.capture),
        notify=notify,
        seed=config.seed,
    )


def stopped_early(run: Run, images: int) -> str:
    return (
        f"{run.path} stopped early at {images} images: no evaluation was better for too long; a higher --early-stop"
        " goes on"
    )


def started(begun: Start, trainer: Trainer) -> str:
    """The one line that says what is being trained, on what, and for how long."""
    config, machine = begun.config, begun.config.machine
    verb = "going on" if trainer.images else "training"
    return (
        f"{verb}: {config.method}, {config.generator.network}, {config.data.size} px, {machine.precision} on"
        f" {machine.device}{COMPILED if machine.compile == 'on' else ''}; {amount(begun.files)}, an epoch is"
        f" {begun.files.epoch}; {trainer.images} of {begun.schedule.total} images seen"
    )


def amount(files: Manifest) -> str:
    """How many images there are to train on."""
    a, b = len(files.a.train), len(files.b.train)
    return f"{a} pairs" if files.paired else f"{a} + {b} images"


def asked_to_stop(asked: bool, steps: int, device: torch.device) -> bool:
    """Whether to stop now; with several processes all of them decide together, every few steps."""
    if distributed.world() == 1:
        return asked
    return steps % AGREE_EVERY == 0 and distributed.any_rank(asked, device)


@contextmanager
def scratch_memory() -> Iterator[None]:
    """Free the convolutions' intermediate memory at the end."""
    try:
        yield
    finally:
        scratch.release()


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """The process group that torchrun asks for; left alone where the caller has made one."""
    mine = distributed.start(device)
    try:
        yield
    finally:
        if mine:
            distributed.stop()


@contextmanager
def out_of_memory(begun: Start) -> Iterator[None]:
    """Turn a device's out-of-memory error into one line that names what to turn down."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        config = begun.config
        raise TwofoldError(
            f"{config.machine.device} ran out of memory at --size {config.data.size} --batch"
            f" {config.training.batch}; start anew with a smaller --size or --batch"
        ) from error


def check_networks(config: Config) -> None:
    """Refuse files that are no networks."""
    perceptual(config)
    if config.evaluation.features is not None:
        own_network(config.evaluation.features, torch.device("cpu"))


def check_memory(begun: Start) -> None:
    """Refuse a run whose steps cannot fit."""
    config = begun.config
    device = hardware.pick_device(config.machine.device, distributed.local_rank())
    memory.check(needed(begun), device, config.data.size, config.training.batch, begun.files.multiple_of)


def needed(begun: Start) -> memory.Need:
    """What a step takes, estimated."""
    config = begun.config
    shape = (config.training.batch, config.data.size)
    with torch.device("meta"):
        method = build(config)
        a, b = (
            torch.empty(shape[0], channels, shape[1], shape[1])
            for channels in (config.data.channels_a or 3, config.data.channels_b or 3)
        )
    return memory.estimate(
        method,
        Batch(a, b, config.adversarial.critic_steps - 1),
        precision=config.machine.precision,
        averaged=config.training.ema > 0,
        device=config.machine.device.split(":")[0],
    )


def plan(out: Path, said: Layer, notify: Notify) -> dict[str, Any]:
    """What `train` would do, for --dry-run: the resolved config, counts, parameters and memory. Writes nothing."""
    run = Run(out)
    if run.exists:
        begun = start.again(run, said)
    else:
        begun = start.new(run, configs.merge(said, {"data": {"cache": False}}), notify)
        cache = configs.compose(said).data.cache
        begun = begun._replace(config=configs.compose(begun.config.model_dump(), {"data": {"cache": cache}}))
    with torch.device("meta"):
        networks = build(begun.config).networks()
    sides = {"A": begun.files.a, "B": begun.files.b}
    return {
        "config": configs.to_yaml(begun.config),
        "run": f"{out} ({'goes on' if run.exists else 'new'})",
        **{
            name: f"{len(side.train)} to train on, {len(side.held_out)} held out, {len(side.folder.skipped)} skipped"
            for name, side in sides.items()
        },
        "images": f"{begun.schedule.total} ({begun.files.epoch} an epoch)",
        "parameters": ", ".join(
            f"{name} {sum(p.numel() for p in network.parameters()):,}" for name, network in networks.items()
        ),
        "memory": f"about {needed(begun).total / 2**30:.1f} GiB a step on {begun.config.machine.device}",
    }
