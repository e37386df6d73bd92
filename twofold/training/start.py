"""How a run begins: settle every `auto` and freeze the file list, or take up what an earlier start settled."""

import json
import math
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

from twofold import config as configs
from twofold import hardware
from twofold.config import Config, Layer
from twofold.cpu import native
from twofold.data import build as manifests
from twofold.data.manifest import Manifest
from twofold.distributed import local_rank, world
from twofold.errors import TwofoldError, UsageError
from twofold.evaluation.settings import HeldOutMetric
from twofold.methods.settings import ROOMS
from twofold.networks.registry import automatic_generator
from twofold.runs import Run
from twofold.training import build, compiled
from twofold.training.schedule import Schedule, schedule
from twofold.training.state import store_bytes

Notify = Callable[[str], None]

FEWEST = 8
"""Held-out images of each side that a KID needs."""


class Start(NamedTuple):
    """All that a training needs to know before it builds anything."""

    config: Config
    files: Manifest
    schedule: Schedule


def new(run: Run, said: Layer, notify: Notify) -> Start:
    """Settle a new run: read both folders, decide what was left open. Writes nothing but the cache.

    Raises:
        UsageError: a setting or a folder is wrong, or the run's folder holds something else.
    """
    wanted = configs.compose(said)
    refuse_folder(run.path, [folder for folder in (wanted.a, wanted.b) if folder is not None])
    multiple = multiple_of(wanted)
    index = manifests.build_manifest(
        wanted.a, wanted.b, wanted.data, wanted.seed, notify, multiple_of=multiple
    )
    begun = settle(decide(wanted, index, notify), index)
    return begun._replace(config=with_speed(begun.config, begun.schedule.total))


def refuse_folder(out: Path, sources: list[Path]) -> None:
    """Refuse a run folder that holds something else, or lies among the images."""
    inside = next((source for source in sources if out.resolve().is_relative_to(source.resolve())), None)
    if inside is not None:
        raise UsageError(f"{out} lies in the image folder {inside}; give an --out elsewhere")
    ours = {"lock", "data.json"}  # all that a start which was killed can leave, files aside apart
    if out.is_dir() and {entry.name for entry in out.iterdir() if entry.name[0] != "."} - ours:
        raise UsageError(f"{out} is not empty and holds no run; give another --out")


def multiple_of(config: Config) -> int:
    """What the generator needs sizes to be a multiple of; refuses what the method's networks cannot take or be."""
    a, b = config.data.channels_a or 3, config.data.channels_b or 3
    likely = configs.compose(config.model_dump(), {"data": {"channels_a": a, "channels_b": b}})
    with torch.device("meta"):
        build.METHODS[config.method](likely)
        return build.generator(likely, a, b).multiple_of


def again(run: Run, said: Layer) -> Start:
    """Take up a run that was started before; `said` may differ from it only where `config.FREE` allows.

    Raises:
        UsageError: something said, or the folders' content, differs from what the run was started with.
        TwofoldError: data.json cannot be read.
    """
    config = configs.resume(stored(run), said)
    try:
        index = Manifest.from_json(run.data.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TwofoldError(f"cannot read {run.data}: restore it, or start a new run") from error
    if changed := manifests.changes(index):
        listed = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise UsageError(
            f"the images changed since {run.path} was started: {listed}; restore them, or start anew with another --out"
        )
    if config.machine.compile == "on" and not compiled.available(device(run, said)):
        raise TwofoldError(
            "this run's networks are compiled, for which this machine has no C++ compiler or Triton"
        )
    return settle(config, index)


def stored(run: Run) -> Config:
    """The config that a run was started with."""
    return configs.compose(configs.from_file(run.config))


def device(run: Run, said: Layer) -> torch.device:
    """The device of this process: the one that a run was started on, or that is wanted for a new one.

    Raises:
        UsageError: there is no such device.
        TwofoldError: this machine lacks what the run was started on.
    """
    if not run.exists:
        return hardware.pick_device(str(configs.get(said, "machine.device") or "auto"), local_rank())
    name = stored(run).machine.device
    try:
        return hardware.pick_device(name, local_rank())
    except UsageError as error:
        raise TwofoldError(f"this run was started on {name}: {error}") from error


def settle(config: Config, index: Manifest) -> Start:
    """Add what follows from both: the schedule, and how often to write what."""
    plan = schedule(config.optim.lr, config.training.epochs, config.training.decay_epochs, index.epoch)
    if plan.total == 0:
        raise UsageError("0 epochs leave nothing to train; raise --epochs or --decay-epochs")
    return Start(with_intervals(config, plan.total, index), index, plan)


def decide(config: Config, index: Manifest, notify: Notify) -> Config:
    """Replace every `auto` and `null` that depends on the data or the machine."""
    a, b = index.a.channels, index.b.channels
    identity = config.cyclegan.identity
    if a != b and ROOMS[config.method] == "cut":
        raise UsageError(
            f"{config.method} shows the generator what it made as well, which takes as many channels in B ({b})"
            f" as in A ({a}): take --method cyclegan"
        )
    if a != b and identity and config.method == "cyclegan":
        raise UsageError(
            f"an identity loss needs as many channels in A ({a}) as in B ({b}); leave out --cyclegan.identity"
        )
    if a != b and (config.data.masks_a or config.data.masks_b):
        raise UsageError(
            f"masks keep images as they are, which {a} and {b} channels cannot be; leave them out"
        )
    if a != b and identity is None and config.method == "cyclegan":
        notify(f"A has {a} channels and B {b}: trained without the identity loss")
    chosen = hardware.pick_device(config.machine.device, local_rank())
    precision = config.machine.precision
    if precision == "auto":
        precision = "bf16" if hardware.fast_bf16(chosen) else "float32"
    size, layout = config.data.size, config.machine.channels_last
    return configs.compose(
        config.model_dump(),
        {
            "data": {
                **{"channels_a": a, "channels_b": b, "paired": index.paired},
                **{"labels_a": index.a.labels, "labels_b": index.b.labels},
            },
            "generator": {"network": automatic_generator(size)} if config.generator.network == "auto" else {},
            "evaluation": {"metric": metric_for(config, index, notify)},
            "cyclegan": {"identity": (0.5 if a == b else 0.0) if identity is None else identity},
            "machine": {
                "device": chosen.type if config.machine.device == "auto" else config.machine.device,
                "precision": precision,
                "threads": config.machine.threads or torch.get_num_threads(),
                "channels_last": chosen.type == "cpu" or precision == "bf16" if layout is None else layout,
                "fused": chosen.type in ("cpu", "cuda")
                if config.machine.fused is None
                else config.machine.fused,
            },
        },
    )


def metric_for(config: Config, index: Manifest, notify: Notify) -> HeldOutMetric:
    """What the best snapshot is chosen by: as asked, or what the held-out images allow.

    Raises:
        UsageError: they do not allow what was asked for.
    """
    wanted, network = config.evaluation.metric, config.evaluation.features
    a, b = (list(side.held_out) for side in (index.a, index.b))
    same = [Path(x.name).with_suffix("") for x in a] == [Path(y.name).with_suffix("") for y in b]
    known = bool(a) and (index.paired or (index.a.val is not None and same))
    possible = min(len(a), len(b)) >= FEWEST and network is not None
    if wanted == "auto":
        found = "psnr" if known else "kid" if possible else "none"
        if found == "none" and config.evaluation.every != 0:
            notify(
                "no best snapshot is kept: "
                + ("no images are held out" if not a else "the held-out images have no known answers")
                + (" (--evaluation.features NETWORK judges without)" if a and network is None else "")
            )
        return found
    if wanted in ("psnr", "ssim") and not known:
        raise UsageError(
            f"evaluation.metric {wanted} needs held-out images with answers: pairs, or --val with equal names"
        )
    if wanted == "kid" and not possible:
        raise UsageError(
            f"evaluation.metric kid needs evaluation.features, a network, and {FEWEST} held-out images a side"
        )
    return wanted


def with_intervals(config: Config, total: int, index: Manifest) -> Config:
    """Fill in how often to report, sample, snapshot, save and evaluate.

    About 20 snapshots a run, at most 100 images a report. Translating a held-out image costs at most a fifth of
    training on one, so that evaluations stay below 4 % of the time.
    """
    step = config.training.batch * world()
    chosen = {
        "report_every": max(step, min(100, math.ceil(total / 200))),
        "sample_every": max(step, 25, math.ceil(total / 40)),
        "snapshot_every": max(step, math.ceil(total / 20)),
        "state_every": max(step, min(2000, index.epoch)),
    }
    given = config.training.model_dump()
    missing = {name: value for name, value in chosen.items() if given[name] is None}
    looked_at = min(len(index.a.held_out), config.evaluation.images)
    every = config.evaluation.every
    if every is None:
        every = max(step, math.ceil(total / 20), 6 * looked_at)
    return configs.compose(config.model_dump(), {"training": missing, "evaluation": {"every": every}})


def with_speed(config: Config, total: int) -> Config:
    """Decide, from all the images that a run will see, by whose code its steps are computed.

    Raises:
        UsageError: what is asked for cannot be on this machine.
    """
    chosen, size = config.machine, config.data.size
    device = hardware.pick_device(chosen.device, local_rank())
    compiling = chosen.compile == "on"
    if compiling and not compiled.available(device):
        needed = "a C++ compiler" + (" and Triton" if device.type == "cuda" else "")
        raise UsageError(f"machine.compile on needs {needed}, which is not here; leave it out")
    if chosen.compile == "auto":
        compiling = compiled.pays(device, size, total)
    fits = device.type == "cuda" and world() == 1 and config.data.resize != "none" and not chosen.checkpoint
    if chosen.capture and not fits:
        raise UsageError(
            "machine.capture is for one process on CUDA, images of one size and no machine.checkpoint; leave it out"
        )
    capture = (fits and chosen.compile != "off") if chosen.capture is None else chosen.capture
    here = device.type == "cpu" and native.available()
    if chosen.native and not here:
        raise UsageError("machine.native is for a CPU, and needs Linux and a C compiler; leave it out")
    decided = {
        "compile": "on" if compiling else "off",
        "capture": capture,
        "native": here and chosen.native is not False,
    }
    return configs.compose(config.model_dump(), {"machine": decided})


def write(run: Run, start: Start) -> None:
    """Create the run folder; config.yaml comes last, so a folder that has one is whole.

    Raises:
        TwofoldError: another process has done so in the meantime.
    """
    if run.exists:
        raise TwofoldError(f"{run.path} was started by another process just now; give another --out")
    run.path.mkdir(parents=True, exist_ok=True)
    replace(run.data, start.files.to_json())
    replace(run.config, configs.to_yaml(start.config))


def note_environment(run: Run, images: int, device: torch.device) -> None:
    """Add this start to env.json: when, where and with what."""
    try:
        before = json.loads(run.env.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the first start, or a file that somebody has edited
        before = []
    now = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": images,
        "command": shlex.join(["twofold", *sys.argv[1:]]),
        "twofold": version("twofold"),
        "processes": world(),
    }
    replace(run.env, json.dumps([*before, now | hardware.describe(device)], indent=1))


def replace(path: Path, text: str) -> None:
    """Write a text file durably, aside, and rename it over `path`."""
    aside = path.with_name(f".{path.name}")
    store_bytes(text.encode(), aside)
    aside.replace(path)
