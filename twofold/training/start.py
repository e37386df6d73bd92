"""How a run begins: settle every `auto` and freeze the file list, or take up what an earlier start settled."""

import json
import math
import os
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
from twofold.data import index as indexes
from twofold.data.index import Index
from twofold.distributed import local_rank, world
from twofold.errors import TwofoldError, UsageError
from twofold.networks.registry import automatic_generator
from twofold.runs import Run
from twofold.training import build
from twofold.training.schedule import Schedule, schedule
from twofold.training.state import store_bytes

Say = Callable[[str], None]


class Start(NamedTuple):
    """All that a training needs to know before it builds anything."""

    config: Config
    files: Index
    schedule: Schedule


def new(said: Layer, say: Say) -> Start:
    """Settle a new run: read both folders, decide what was left open. Writes nothing into the run.

    Raises:
        UsageError: a setting or a folder is wrong.
    """
    wanted = configs.compose(said)
    multiple = multiple_of(wanted)
    index = indexes.build(wanted.a, wanted.b, wanted.data, wanted.seed, say, multiple_of=multiple)
    return settle(decide(wanted, index, say), index)


def multiple_of(config: Config) -> int:
    """What the generator needs sizes to be a multiple of; refuses a size it cannot take."""
    with torch.device("meta"):
        return build.generator(config, 3, 3).multiple_of


def again(run: Run, said: Layer) -> Start:
    """Take up a run that was started before; `said` may differ from it only where `config.FREE` allows.

    Raises:
        UsageError: something said, or the folders' content, differs from what the run was started with.
        TwofoldError: this machine lacks what the run was started on.
    """
    stored = configs.compose(configs.from_file(run.config))
    config = configs.resume(stored, said)
    index = Index.from_json(run.data.read_text(encoding="utf-8"))
    if changed := indexes.changes(index):
        listed = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise UsageError(
            f"the images changed since {run.path} was started: {listed}; restore them, or start anew with another --out"
        )
    try:
        hardware.pick_device(config.machine.device, local_rank())
    except UsageError as error:
        raise TwofoldError(f"this run was started on {config.machine.device}: {error}") from error
    return settle(config, index)


def settle(config: Config, index: Index) -> Start:
    """Add what follows from both: the schedule, and how often to write what."""
    plan = schedule(config.optim.lr, config.training.epochs, config.training.decay_epochs, index.epoch)
    if plan.total == 0:
        raise UsageError("0 epochs leave nothing to train; raise --epochs or --decay-epochs")
    return Start(with_intervals(config, plan.total, index.epoch), index, plan)


def decide(config: Config, index: Index, say: Say) -> Config:
    """Replace every `auto` and `null` that depends on the data or the machine."""
    a, b = index.a.channels, index.b.channels
    identity = config.cyclegan.identity
    if a != b and identity:
        raise UsageError(
            f"an identity loss needs as many channels in A ({a}) as in B ({b}); leave out --cyclegan.identity"
        )
    if a != b and identity is None:
        say(f"A has {a} channels and B {b}: trained without the identity loss")
    device = hardware.pick_device(config.machine.device, local_rank())
    precision = config.machine.precision
    if precision == "auto":
        precision = "bf16" if hardware.fast_bf16(device) else "float32"
    size, layout = config.data.size, config.machine.channels_last
    return configs.compose(
        config.model_dump(),
        {
            "a": config.a.absolute(),
            "b": config.b.absolute(),
            "data": {"channels_a": a, "channels_b": b},
            "generator": {"network": automatic_generator(size)} if config.generator.network == "auto" else {},
            "cyclegan": {"identity": (0.5 if a == b else 0.0) if identity is None else identity},
            "machine": {
                "device": device.type,
                "precision": precision,
                "threads": config.machine.threads or torch.get_num_threads(),
                "channels_last": precision == "bf16" if layout is None else layout,
                "fused": device.type in ("cpu", "cuda")
                if config.machine.fused is None
                else config.machine.fused,
            },
        },
    )


def with_intervals(config: Config, total: int, epoch_images: int) -> Config:
    """Fill in how often to report, sample, snapshot and save; about 20 snapshots a run, at most 100 images a report."""
    step = config.training.batch * world()
    chosen = {
        "report_every": max(step, min(100, math.ceil(total / 200))),
        "sample_every": max(step, 25, math.ceil(total / 40)),
        "snapshot_every": max(step, math.ceil(total / 20)),
        "state_every": max(step, min(2000, epoch_images)),
    }
    given = config.training.model_dump()
    missing = {name: value for name, value in chosen.items() if given[name] is None}
    return configs.compose(config.model_dump(), {"training": missing})


def write(run: Run, start: Start) -> None:
    """Create the run folder; config.yaml comes last, so a folder that has one is whole.

    Raises:
        UsageError: the folder is there and holds something else.
    """
    strangers = [p.name for p in run.path.iterdir() if p.name != "lock"] if run.path.is_dir() else []
    if set(strangers) - {"data.json", "env.json"}:
        raise UsageError(f"{run.path} is not empty and holds no run; give another --out")
    run.path.mkdir(parents=True, exist_ok=True)
    replace(run.data, start.files.to_json())
    replace(run.config, configs.to_yaml(start.config))


def note_environment(run: Run, images: int, device: torch.device) -> None:
    """Add this start to env.json: when, where and with what."""
    before = json.loads(run.env.read_text(encoding="utf-8")) if run.env.is_file() else []
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
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    store_bytes(text.encode(), aside)
    aside.replace(path)
