"""`twofold train`: what it takes, what it does, what it says."""

import os
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import yaml
from cyclopts import Group, Parameter

from twofold import config as configs
from twofold.cli.terminal import emit, watcher
from twofold.cli.verbs import Direction, Flag, MaybeWhole
from twofold.config import Layer, Settings
from twofold.errors import INTERRUPTED, UsageError
from twofold.methods.settings import MethodName
from twofold.presets import layer as preset_layer
from twofold.runs import Run
from twofold.training.settings import Compile, LogName

ALL = Group("Every setting", help="Also in a YAML file (-c) or as TWOFOLD_SET_OPTIM__LR=1e-4.", sort_key=2)


class Rooms(Settings):
    """Every setting, apart from those that `train` has under a name of its own as well."""

    method: Annotated[MethodName, Parameter(show=False)] = "cyclegan"
    seed: Annotated[int, Parameter(show=False)] = 0


def train(
    a: Path | None = None,
    b: Path | None = None,
    /,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    method: MethodName | None = None,
    preset: str | None = None,
    config: Annotated[Path | None, Parameter(name=["--config", "-c"])] = None,
    size: MaybeWhole = None,
    epochs: float | None = None,
    decay_epochs: float | None = None,
    batch: MaybeWhole = None,
    seed: MaybeWhole = None,
    device: str | None = None,
    compile: Compile | None = None,
    pairs: str | None = None,
    direction: Direction | None = None,
    labels_a: bool | None = None,
    labels_b: bool | None = None,
    val: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    eval_every: MaybeWhole = None,
    early_stop: MaybeWhole = None,
    cache: bool | None = None,
    log: Annotated[list[LogName] | None, Parameter(consume_multiple=True)] = None,
    dry_run: Flag = False,
    json: Flag = False,
    settings: Annotated[Rooms | None, Parameter(name="*", group=ALL)] = None,
) -> int:
    """Train a translator between two folders of images, or on pairs; or go on with a run.

    Ctrl-C saves and stops; the same command again goes on where it stopped.

    Parameters
    ----------
    a
        Folder of domain A, searched with its subfolders. Of pairs: a folder of both, or a list (.csv, .jsonl).
    b
        Folder of domain B; pairs in two folders have the same names in both.
    out
        The run folder; runs/A2B-METHOD if not given.
    resume
        A run folder to go on with, in place of A and B.
    method
        The training method.
    preset
        A published recipe to start from; `twofold presets` lists them.
    config
        A YAML file of settings, such as the config.yaml of another run.
    size
        Side of the square crops that are trained on.
    epochs
        Epochs at constant learning rate.
    decay_epochs
        Epochs in which the learning rate falls to zero.
    batch
        Images a step.
    seed
        Seed of everything random.
    device
        auto, cpu, cuda, cuda:1, mps.
    compile
        on, off, or auto: whether the networks are compiled, which takes minutes once and pays in long runs.
    pairs
        How one folder holds pairs: halves (the left is the input), or two suffixes (jpg:png, the first is the
        input); found out if not given.
    direction
        ba exchanges A and B, so input and output of pairs.
    labels_a, labels_b
        Whether these are label maps, which are resized without mixing colours; found out if not given.
    val
        Two folders of held-out images, of pairs maybe one, or `none` to train on everything.
    eval_every
        Images between evaluations on held-out images; a few times a run if not given, 0 for never.
    early_stop
        End after so many evaluations without a better one.
    cache
        --no-cache decodes each image whenever it is used.
    log
        csv, tensorboard, wandb, mlflow: write the reports for other programs as well, into the run folder; the last
        two elsewhere if WANDB_MODE=online or MLFLOW_TRACKING_URI says so.
    dry_run
        Print what would be trained, and write nothing.
    json
        One JSON object a line.
    """
    short = {
        "method": method,
        "preset": preset,
        "seed": seed,
        "data.size": size,
        "data.cache": cache,
        "training.epochs": epochs,
        "training.decay_epochs": decay_epochs,
        "training.batch": batch,
        "training.log": log,
        "machine.device": device,
        "machine.compile": compile,
        "evaluation.every": eval_every,
        "evaluation.patience": early_stop,
        "data.pairs": pairs,
        "data.direction": direction,
        "data.labels_a": labels_a,
        "data.labels_b": labels_b,
        **held_out(val),
    }
    spoken = settings.model_dump(exclude_unset=True) if settings else {}
    said = layers(configs.from_file(config) if config else {}, spoken, short)
    said |= {name: path for name, path in (("a", a), ("b", b)) if path is not None}
    refuse(a, out, resume)
    if resume is None:
        configs.refuse_others(said.get("method", Settings().method), spoken)
    return start(resume or out or configs.default_out(said), said, dry_run, json)


def layers(file: Layer, spoken: Layer, short: dict[str, Any]) -> dict[str, Any]:
    """All that is said, each layer above those before it: a preset, the file, the environment, the command line.

    Args:
        spoken: what is said by the settings' own names.
        short: what the shorter options say, by path; None is not said.
    """
    return configs.merge(
        preset_layer(short["preset"] or file.get("preset")),
        file,
        configs.from_environment(),
        spoken,
        configs.nest({path: value for path, value in short.items() if value is not None}),
    )


def refuse(a: Path | None, out: Path | None, resume: Path | None) -> None:
    """Refuse what is neither a new run nor one to go on with."""
    if resume is not None and out is not None:
        raise UsageError(f"--resume {resume} is the run folder already; leave out --out")
    if resume is not None and not Run(resume).exists:
        raise UsageError(f"there is no run in {resume}; start one with `twofold train A B --out {resume}`")
    if resume is None and a is None:
        raise UsageError("two folders are needed: `twofold train A B`; or `twofold train --resume RUN`")


def start(run: Path, said: Layer, dry_run: bool, json: bool) -> int:
    """Train, or say what would be trained; the exit code."""
    from twofold.hardware import keep_freed_memory
    from twofold.training import train as loop

    keep_freed_memory()
    with watcher(json) as watching:
        if dry_run:
            plan = loop.plan(run, said, watching.notify)
            emit(dumps(plan | {"config": yaml.safe_load(plan["config"])}) if json else shown(plan))
            return 0
        finished = loop.train(run, said, watching)
        if os.environ.get("RANK", "0") == "0":  # one of several processes speaks for all
            for line in what_next(run, finished):
                watching.notify(line)
    return 0 if finished else INTERRUPTED


def what_next(run: Path, finished: bool) -> list[str]:
    """What to type after a training."""
    if not finished:
        return [f"go on:      twofold train --resume {run}"]
    best = ["best:       add --best, the best on held-out images"] if Run(run).best("ab").is_file() else []
    return [
        f"translate:  twofold translate {run} IMAGES -o translated",
        *best,
        f"look:       {run / 'report.html'}",
    ]


def held_out(val: list[str] | None) -> dict[str, Any]:
    """What --val says: two folders, one of pairs, or none."""
    if val is None:
        return {}
    if val == ["none"]:
        return {"data.hold_out": False}
    if len(val) not in (1, 2):
        raise UsageError(
            "--val takes two folders, of A and of B (of pairs one), or none; write it after what to train on"
        )
    return {f"data.val_{side}": Path(folder) for side, folder in zip("ab", val, strict=False)}


def shown(plan: dict[str, Any]) -> str:
    """What --dry-run finds out, the config last but for the figures."""
    figures = "\n".join(f"{name + ':':<14}{value}" for name, value in plan.items() if name != "config")
    return f"{plan['config']}\n{figures}"
