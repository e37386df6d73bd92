"""How a run starts: read the folders and choose every `auto`, or read what an earlier start has chosen."""

import json
import math
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

from twofold import config as configs
from twofold import hardware
from twofold.config import Config, Layer
from twofold.data import build as manifests
from twofold.data.manifest import Manifest
from twofold.data.reopen import Given, reopen
from twofold.data.rules import some
from twofold.distributed import local_rank, world
from twofold.errors import TwofoldError, UsageError
from twofold.evaluation.heldout import METRICS
from twofold.files import write_atomically
from twofold.methods.base import Method
from twofold.methods.settings import ROOMS
from twofold.networks.registry import automatic_generator
from twofold.read_untrusted import as_list, parse_file
from twofold.runs import Notify, Run, Track
from twofold.training import build, machine
from twofold.training.choose_metric import metric_for
from twofold.training.folders import with_layout, with_same_layout
from twofold.training.pretrained import Origins, generator_of, open_source, with_networks
from twofold.training.pretrained import check as check_source
from twofold.training.schedule import Schedule, schedule

DISTANCE_EVERY = 200
"""Fewest images between evaluations by a distance, unless the user says otherwise."""

STATE_EVERY = 2000
"""Images between states, at most unless the user says otherwise. A state of two ResNet-9 takes under a second to write:
1 % of the time at 20 images/s (docs/LOG.md)."""


class Start(NamedTuple):
    """Everything that a run needs to know before anything is built."""

    config: Config
    manifest: Manifest
    schedule: Schedule


def new_run(run: Run, overrides: Layer, notify: Notify, track: Track) -> Start:
    """Read both folders and choose every setting that is left open. Writes nothing but the image cache."""
    overrides, line = with_layout(overrides)
    given = configs.compose(overrides)
    source = open_source(given.training.start_from) if given.training.start_from else None
    config = configs.compose(with_networks(overrides, source, given)) if source else given
    if line:
        notify(line)
    refuse_folder(run.path, [folder for folder in (config.a, config.b) if folder is not None])
    likely = likely_method(config)
    if source:
        check_source(source, config, likely)
    multiple = generator_of(likely, "ab").multiple_of
    manifest = manifests.build_manifest(
        config.a, config.b, config.data, config.seed, notify, multiple_of=multiple, track=track
    )
    config, plan = with_schedule(choose_from_data(config, manifest, notify), manifest)
    check_accumulation(config, plan, manifest.epoch, notify)
    return Start(machine.choose(config, plan.total, notify), manifest, plan)


def resume(run: Run, overrides: Layer, notify: Notify, track: Track) -> Start:
    """Read what an earlier start has chosen; `overrides` may change what `config.FREE` lists, and name moved folders.

    Writes nothing but the image cache.

    Raises:
        UsageError: another setting, or the images, differ from those that the run was started with.
        TwofoldError: data.json cannot be read.
    """
    before = stored(run)
    overrides = with_same_layout(overrides, before)
    config = configs.resume(before, overrides)
    then, now = (Given(each.a, each.b, each.data) for each in (before, config))
    manifest, differences = reopen(stored_manifest(run), then, now, notify, track)
    if differences:
        folders = "NEW_A NEW_B" if config.b else "NEW_A"
        raise UsageError(
            f"these are not the images that {run.path} was started with: {some(differences, 5)}; undo that, or"
            f" name where they are now: `twofold train {folders} --resume {run.quoted}`, or start a new run with another"
            f" --out, from these weights with --from {run.quoted}"
        )
    refuse_shown(config, manifest.a.channels, manifest.b.channels)
    config, plan = with_schedule(config, manifest)
    about_schedule(run, schedule(before.optim.lr, before.training, manifest.epoch), plan, notify)
    return Start(machine.choose_again(before, config, overrides, plan.total, notify), manifest, plan)


def about_schedule(run: Run, before: Schedule, now: Schedule, notify: Notify) -> None:
    """Print a schedule that has changed, with its learning rate at the newest state before and after."""
    states = run.states()
    if not states or now == before:
        return
    images = states[-1][0]
    notify(
        f"new schedule: {now}; the learning rate at {images:,} images was {before.rate(images):.3g} and is now"
        f" {now.rate(images):.3g}"
    )


def stored(run: Run) -> Config:
    """The config that a run was started with."""
    return configs.compose(configs.from_file(run.config))


def stored_manifest(run: Run) -> Manifest:
    """The manifest that a run was started with.

    Raises:
        TwofoldError: data.json cannot be read.
    """
    try:
        return Manifest.from_json(run.data.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TwofoldError(f"cannot read {run.data}: restore it, or start a new run") from error


def refuse_folder(out: Path, sources: list[Path]) -> None:
    """Refuse a run folder that holds something else, or that is inside an image folder."""
    inside = next((source for source in sources if out.resolve().is_relative_to(source.resolve())), None)
    if inside is not None:
        raise UsageError(f"{out} is inside the image folder {inside}; choose an --out elsewhere")
    own = {"lock", "data.json"}  # left by a start that was killed, besides hidden temporary files
    if out.is_dir() and {entry.name for entry in out.iterdir() if entry.name[0] != "."} - own:
        raise UsageError(f"{out} is not empty and holds no run; choose another --out")


def likely_method(config: Config) -> Method:
    """The method before the images are read, without data: with three channels where their number is not given."""
    a, b = config.data.channels_a or 3, config.data.channels_b or 3
    likely = configs.compose(config.model_dump(), {"data": {"channels_a": a, "channels_b": b}})
    with torch.device("meta"):
        return build.build(likely)


def choose_from_data(config: Config, manifest: Manifest, notify: Notify) -> Config:
    """Choose every open setting that depends on the images."""
    a, b = build.channels((manifest.a.contract, manifest.b.contract))
    refuse_channels(config, a, b)
    refuse_shown(config, a, b)
    identity = config.cyclegan.identity
    if a != b and identity is None and config.method == "cyclegan":
        notify(f"A and B differ in channels ({a} and {b}): no identity loss")
    chosen = {
        "data": {
            "channels_a": manifest.a.channels,
            "channels_b": manifest.b.channels,
            "labels_a": manifest.a.labels,
            "labels_b": manifest.b.labels,
            "paired": manifest.paired,
        },
        "evaluation": {"metric": metric_for(config, manifest, notify)},
        "cyclegan": {"identity": (0.5 if a == b else 0.0) if identity is None else identity},
    }
    if config.generator.network == "auto":
        chosen["generator"] = {"network": automatic_generator(config.data.size)}
    return configs.compose(config.model_dump(), chosen)


def check_accumulation(config: Config, plan: Schedule, epoch: int, notify: Notify) -> None:
    """Refuse steps that are longer than an epoch. Print where the run ends if its length is not a multiple of a step."""
    step, accumulate = step_images(config), config.training.accumulate
    if accumulate > 1 and step > epoch:
        raise UsageError(
            f"--training.accumulate {accumulate} makes steps of {step} images, more than the {epoch} of an epoch; lower it"
        )
    if accumulate > 1 and plan.total % step:
        notify(
            f"{plan.total} images are not a multiple of the {step} images of a step; the run ends at"
            f" {math.ceil(plan.total / step) * step}"
        )


def refuse_channels(config: Config, a: int, b: int) -> None:
    """Refuse settings that need as many channels in A as in B."""
    if a == b:
        return
    unequal = f"as many channels in A ({a}) as in B ({b})"
    if ROOMS[config.method] == "cut":
        raise UsageError(f"{config.method} needs {unequal}; use --method cyclegan")
    if config.cyclegan.identity and config.method == "cyclegan":
        raise UsageError(f"the identity loss needs {unequal}; leave out --cyclegan.identity")
    if config.data.masks_a or config.data.masks_b:
        raise UsageError(f"masks need {unequal}; leave out --data.masks-a and --data.masks-b")


def refuse_shown(config: Config, a: int, b: int) -> None:
    """Refuse to show channels that a domain does not have."""
    for side, chosen, channels in (("a", config.data.show_a, a), ("b", config.data.show_b, b)):
        if chosen and max(chosen) >= channels:
            raise UsageError(
                f"--data.show-{side} names channel {max(chosen)}, but the channels of {side.upper()} are numbered"
                f" from 0 to {channels - 1}"
            )


def with_schedule(config: Config, manifest: Manifest) -> tuple[Config, Schedule]:
    """Make the schedule, and choose how often to report, sample, snapshot, save and evaluate.

    A run has about 20 snapshots, and at most 100 images between reports. On a GPU, which may be done with a small epoch
    in seconds, states are not saved more often for one. Evaluations take under 4 % of the time:
    translating a held-out image costs at most a fifth of training on one. For few and small images a distance between
    sets costs as much as their translation, so evaluations by distance are at least `DISTANCE_EVERY` images apart.
    """
    length = config.training
    step, plan = step_images(config), schedule(config.optim.lr, length, manifest.epoch)
    undecided = length.state_every is None  # else the device may be that of another machine
    on_gpu = undecided and hardware.pick_device(config.machine.device, local_rank()).type != "cpu"
    total = plan.total
    chosen = {
        "report_every": max(step, min(100, math.ceil(total / 200))),
        "sample_every": max(step, 25, math.ceil(total / 40)),
        "snapshot_every": max(step, math.ceil(total / 20)),
        "state_every": max(step, STATE_EVERY if on_gpu else min(STATE_EVERY, manifest.epoch)),
    }
    missing = {name: value for name, value in chosen.items() if getattr(length, name) is None}
    images = min(len(manifest.a.held_out), config.evaluation.images)
    every = config.evaluation.every
    if every is None:
        translated = images * (2 if ROOMS[config.method] == "cyclegan" else 1)
        fewest = 1 if config.evaluation.metric in METRICS else DISTANCE_EVERY
        every = max(step, math.ceil(total / 20), 6 * translated, fewest)
    chosen = {"training": missing, "evaluation": {"every": every}}
    return configs.compose(config.model_dump(), chosen), plan


def step_images(config: Config) -> int:
    """Images of one optimizer step, over all processes."""
    return config.training.batch * config.training.accumulate * world()


def write(run: Run, start: Start, is_new: bool) -> None:
    """Create the run folder, or record what a resumed run changes.

    config.yaml comes last, so that a folder that has one is complete.

    Raises:
        TwofoldError: another process has created it in the meantime.
    """
    if is_new and run.exists:
        raise TwofoldError(f"another process has just started {run.path}; choose another --out")
    if is_new or start.manifest != stored_manifest(run):
        write_atomically(run.data, start.manifest.to_json(), durable=True)
    write_atomically(run.config, configs.to_yaml(start.config), durable=True)


def record_environment(run: Run, images: int, device: torch.device, origins: Origins) -> None:
    """Add this start to env.json: when, where, with which versions, and from which trained weights."""
    earlier = as_list(parse_file(run.env, json.loads))
    now = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": images,
        "command": shlex.join(["twofold", *sys.argv[1:]]),
        "twofold": version("twofold"),
        "processes": world(),
    }
    starts = [*earlier, now | ({"start_from": origins} if origins else {}) | hardware.describe(device)]
    write_atomically(run.env, json.dumps(starts, indent=1), durable=True)
