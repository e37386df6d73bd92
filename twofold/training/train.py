"""A run, from two folders to the last snapshot. Read it from top to bottom."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

import torch

from twofold import config as configs
from twofold import distributed, hardware
from twofold.config import Config, Layer
from twofold.data.dataset import open_images
from twofold.data.loader import Loader
from twofold.errors import UsageError
from twofold.evaluation.heldout import judging_network
from twofold.files import lock
from twofold.methods.base import Method
from twofold.presets import layer
from twofold.reporting import exporters
from twofold.runs import Notify, Run, Track, untracked
from twofold.training import machine, memory, start, state
from twofold.training.build import build, perceptual
from twofold.training.callbacks import Callbacks, OnFile, OnReport
from twofold.training.freezing import frozen
from twofold.training.pretrained import load, open_source
from twofold.training.profiling import profiled
from twofold.training.records import Records, best_of, out_of_patience
from twofold.training.session import interruptible, own_torch_state
from twofold.training.start import Start
from twofold.training.trainer import Trainer

RESIDENT_SHARE = 0.25
"""The share of a GPU's free memory that the decoded images may fill, to be kept there."""


Progress = Callable[[int, int, float, dict[str, float]], None]
"""Called after each step: images seen and of the whole run, images/s since the start, losses as last reported."""


def train(
    a: str | Path,
    b: str | Path | None = None,
    *,
    out: str | Path | None = None,
    method: str | None = None,
    preset: str | None = None,
    size: int | None = None,
    epochs: float | None = None,
    decay_epochs: float | None = None,
    batch: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    start_from: str | Path | None = None,
    freeze: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    notify: Notify = lambda line: None,  # noqa: ARG005
    on_report: OnReport | None = None,
    on_sample: OnFile | None = None,
    on_snapshot: OnFile | None = None,
) -> Run:
    """Train a model on two folders of images, or resume the run in `out`.

    Args:
        a, b: the folders. `a` alone may be a dataset root with folders for both, or for pairs a folder that holds
            both, or a list of them (.csv, .tsv, .jsonl). If `out` is a run, they may have been moved: twofold compares
            their content.
        out: the run folder; runs/A2B-METHOD by default.
        method, preset, size, epochs, decay_epochs, batch, seed, device, freeze: as on the command line.
        start_from: trained weights to start from, as --from on the command line.
        settings: any other setting: ``{"optim": {"lr": 1e-4}}`` or ``{"optim.lr": 1e-4}``.
        notify: receives each line that the user should read, for example `print`.
        on_report: called as ``on_report(values)`` after each line of metrics.jsonl. The values are images, epoch, lr,
            losses (a dictionary), seconds, images_per_s and waiting.
        on_sample, on_snapshot: called as ``on_sample(images, direction, file)`` after each sample grid, and each model
            file, is written; direction is "ab" or "ba". With several processes only the first calls them. After an
            exception in one of the three the run saves its state and ends, and the exception is raised here.

    Returns:
        The run. ``twofold.load(run.path)`` gives its translator.

    Raises:
        UsageError: a setting or a folder is wrong, or differs from the run in `out`.
        TwofoldError: the run could not continue.
        KeyboardInterrupt: the run was interrupted; everything is saved, and the same call resumes it.
    """
    short = {
        "method": method,
        "seed": seed,
        "data.size": size,
        "training.epochs": epochs,
        "training.decay_epochs": decay_epochs,
        "training.batch": batch,
        "training.start_from": start_from,
        "training.freeze": freeze,
        "machine.device": device,
    }
    overrides = configs.merge(
        layer(preset),
        configs.from_environment(),
        configs.with_new_names(settings or {}),
        configs.nest({path: value for path, value in short.items() if value is not None}),
        {name: Path(folder) for name, folder in (("a", a), ("b", b)) if folder is not None},
    )
    folder = Path(out) if out is not None else configs.default_out(overrides)
    callbacks = Callbacks(on_report, on_sample, on_snapshot)
    finished = start_or_resume(folder, overrides, notify, callbacks=callbacks)
    if callbacks.error is not None:
        raise callbacks.error
    if not finished:
        raise KeyboardInterrupt(f"{folder} is saved; the same call resumes it")
    return Run(folder)


def start_or_resume(
    out: Path,
    overrides: Layer,
    notify: Notify,
    progress: Progress = lambda *_: None,
    track: Track = untracked,
    *,
    callbacks: Callbacks | None = None,
    profile: bool = False,
) -> bool:
    """Start the run in `out`, or resume it.

    Args:
        overrides: the user's settings as a nested mapping, with `a` and `b`.
        notify, progress: receive lines that the user should read, and each step.
        profile: trace a few steps of this start into the run folder.

    Returns:
        True where the run is finished, False where it was interrupted.

    Raises:
        UsageError: the folders or settings are wrong, or differ from the run's; nothing is written.
        TwofoldError: the run cannot continue; the message says why, and from where it can.
    """
    run = Run(out)
    device = machine.device_of(start.stored(run) if run.exists else None, overrides)
    with ExitStack() as session:
        session.enter_context(distributed.joined(device))
        first = distributed.rank() == 0
        if not first:
            notify = progress = lambda *_: None
            track = untracked
        with distributed.rank_zero_first():
            is_new = first and not run.exists  # the others find what the first has written
            begin = start.new_run if is_new else start.resume
            started = begin(run, overrides, notify, track)
            exporters.check(started.config.training.log)
            if is_new:
                check(started)
            if first:
                hold_lock(run, session)
                start.write(run, started, is_new)
        callbacks = callbacks if callbacks and first else Callbacks()
        return follow(run, started, notify, progress, callbacks, profile=profile and first)


def follow(
    run: Run, started: Start, notify: Notify, progress: Progress, callbacks: Callbacks, *, profile: bool
) -> bool:
    """Train from the newest state, or from nothing, to the end of the schedule or until a stop is requested."""
    config, manifest, schedule = started
    device = hardware.pick_device(config.machine.device, distributed.local_rank())
    with (
        interruptible() as stop,
        own_torch_state(device, config.machine.threads or 1, config.machine.deterministic, config.data.crops),
        hardware.explained_out_of_memory(
            f"{config.machine.device} ran out of memory at --size {config.data.size} --batch {config.training.batch};"
            " resume with --machine.checkpoint, or start a new run with a smaller --size or --batch"
        ),
    ):
        with distributed.rank_zero_first():
            images = open_images(manifest, config.data, notify)
        method = build(config, (manifest.a.contract, manifest.b.contract))
        origins = {}
        if config.training.start_from and not run.states():
            origins = load(open_source(config.training.start_from), method, notify)
        if config.training.freeze:
            notify(f"frozen: {frozen(method, config.training.freeze)}")
        trainer = trainer_for(config, method, device)
        if device.type == "cuda":
            images = images.resident(device, int(RESIDENT_SHARE * (hardware.free_memory(device) or 0)))
        saved = state.load(run, trainer, notify) or {"start_from": origins}
        if is_over(run, started, trainer, saved, notify):
            return True
        notify(first_line(started, trainer))
        if distributed.rank() == 0:
            start.record_environment(run, trainer.images, device, origins)
        records = Records(run, started, trainer, images, saved, notify, callbacks)
        with (
            closing(records.exporters),
            Loader(
                images.a,
                images.b,
                config.data,
                config.seed,
                batch=config.training.batch,
                device=device,
                paired=manifest.paired,
                rank=distributed.rank(),
                world=distributed.world(),
                start=trainer.images,
            ) as batches,
            profiled(run, device, lambda: trainer.images, notify) if profile else nullcontext() as traced,
        ):
            records.start_clock(batches)
            if origins:  # so that no later start needs the source
                records.save_state()
            images_before = trainer.images
            for batch in batches:
                trainer.step(batch, schedule.rate(images_before))
                if not trainer.accumulated:
                    if traced:
                        traced()
                    records.after_step(images_before)
                    images_before = trainer.images
                progress(trainer.images, schedule.total, records.rate(), records.losses)
                if trainer.accumulated:
                    continue
                if records.ended:
                    if trainer.images < schedule.total:
                        notify(stopped_early(run, trainer.images))
                    break
                if distributed.any_rank(stop.is_set() or callbacks.error is not None):
                    records.save_state()
                    notify(f"stopped at {trainer.images} of {schedule.total} images; everything is saved")
                    return False
    return True


def trainer_for(config: Config, method: Method, device: torch.device) -> Trainer:
    used = config.machine
    return Trainer(
        method,
        device=device,
        ema=config.training.ema,
        accumulate=config.training.accumulate,
        compiled=used.compile == "on",
        seed=config.seed,
        **config.optim.model_dump(),
        **used.model_dump(include={"precision", "fused", "channels_last", "native", "capture"}),
    )


def is_over(run: Run, started: Start, trainer: Trainer, saved: dict[str, Any], notify: Notify) -> bool:
    """Whether the run has nothing left to train, which is then printed."""
    config = started.config
    if trainer.images >= started.schedule.total:
        if distributed.rank() == 0:
            exporters.Exporters(config.training.log, run, notify).close()
        notify(
            f"{run.path} is finished with {trainer.images} images; raise --epochs or --decay-epochs to train longer"
        )
        return True
    if out_of_patience(best_of(saved), config.evaluation.patience):
        notify(stopped_early(run, trainer.images))
        return True
    return False


def stopped_early(run: Run, images: int) -> str:
    return (
        f"{run.path} stopped early at {images} images: no better evaluation for too long; raise --early-stop to"
        " continue"
    )


def first_line(started: Start, trainer: Trainer) -> str:
    """The line that says what is trained, on which device, and for how long."""
    config, used, manifest = started.config, started.config.machine, started.manifest
    verb = "resuming" if trainer.images else "training"
    compiled = ", compiled (the first steps take minutes)" if used.compile == "on" else ""
    a, b = len(manifest.a.train), len(manifest.b.train)
    amount = f"{a} pairs" if manifest.paired else f"{a} + {b} images"
    return (
        f"{verb}: {config.method}, {config.generator.network}, {config.data.size} px, {used.precision} on"
        f" {used.device}{compiled}; {amount}, {manifest.epoch} images an epoch;{step_size(config)}"
        f" {trainer.images} of {started.schedule.total} images seen"
    )


def step_size(config: Config) -> str:
    """How many images a step sees, where that is not the batch alone."""
    processes, batch, batches = distributed.world(), config.training.batch, config.training.accumulate
    if processes * batches == 1:
        return ""
    factors = [f"{processes} processes"] * (processes > 1) + [f"batch {batch}"]
    factors += [f"{batches} accumulated"] * (batches > 1)
    return f" {' × '.join(factors)} = {start.step_images(config)} images a step;"


def hold_lock(run: Run, session: ExitStack) -> None:
    message = f"another process is training {run.path}; stop it, or choose another --out"
    try:
        session.enter_context(lock(run.lock, message))
    except OSError as error:
        raise UsageError(f"cannot write to {run.path} ({error.strerror}); choose another --out") from error


def check(started: Start) -> None:
    """Refuse network files that cannot be read and steps that do not fit: the last check before anything is written."""
    config = started.config
    perceptual(config)
    judging_network(config.evaluation, torch.device("cpu"))
    device = hardware.pick_device(config.machine.device, distributed.local_rank())
    need = memory.estimate_step(config)
    memory.check(need, device, config.data.size, config.training.batch, started.manifest.multiple_of)
