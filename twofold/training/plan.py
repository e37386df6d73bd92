"""What a run would do, for `--dry-run`."""

from pathlib import Path
from typing import Any

import torch

from twofold import config as configs
from twofold.config import Layer
from twofold.data.settings import DataSettings
from twofold.runs import Notify, Run, Track, untracked
from twofold.training import memory, start
from twofold.training.build import build
from twofold.training.freezing import frozen


def plan(out: Path, overrides: Layer, notify: Notify, track: Track = untracked) -> dict[str, Any]:
    """What `train` would do, for --dry-run: the resolved config, counts, parameters and memory. Writes nothing."""
    run = Run(out)
    begin = start.resume if run.exists else start.new_run
    uncached = configs.merge(overrides, {"data": {"cache": False}})
    config, manifest, schedule = begin(run, uncached, notify, track)
    usual = start.stored(run).data.cache if run.exists else DataSettings().cache
    cached = configs.get(overrides, "data.cache")
    config = configs.compose(config.model_dump(), {"data": {"cache": usual if cached is None else cached}})
    with torch.device("meta"):
        method = build(config, (manifest.a.contract, manifest.b.contract))
    sides = {"A": manifest.a, "B": manifest.b}
    return {
        "config": configs.to_yaml(config),
        "run": f"{out} ({'resumed' if run.exists else 'new'})",
        **{
            name: f"{len(side.train)} to train on, {len(side.held_out)} held out, {len(side.folder.skipped)} skipped"
            for name, side in sides.items()
        },
        "images": f"{schedule.total} ({manifest.epoch} an epoch)",
        "schedule": str(schedule),
        "parameters": ", ".join(
            f"{name} {sum(p.numel() for p in network.parameters()):,}"
            for name, network in method.networks().items()
        ),
        **({"frozen": frozen(method, config.training.freeze)} if config.training.freeze else {}),
        "memory": f"about {memory.estimate_step(config).total / 2**30:.2g} GiB a step on {config.machine.device}",
    }
