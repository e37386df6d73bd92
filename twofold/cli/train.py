"""`twofold train`: settings as options, a run started or resumed, and what to type next."""

import os
import shlex
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import yaml
from cyclopts import Group, Parameter
from pydantic import BaseModel, create_model

from twofold import config as configs
from twofold.cli.help import SETTINGS
from twofold.cli.options import Flag, Listed, long_option, option
from twofold.cli.terminal import emit, watcher
from twofold.config import Layer, Settings
from twofold.errors import INTERRUPTED, UsageError
from twofold.presets import layer as preset_layer
from twofold.runs import Run

RUN, IMAGES, TRAINING, REST = (
    Group.create_ordered(title) for title in ("Run", "Images", "Training", f"{SETTINGS}the command")
)

COMMON = {
    **dict.fromkeys(("method", "preset", "training.start_from"), RUN),
    **dict.fromkeys(("data.size", "data.pairs", "data.direction"), IMAGES),
    **dict.fromkeys(("training.epochs", "training.decay_epochs", "training.batch", "optim.lr"), TRAINING),
    **dict.fromkeys(("seed", "evaluation.patience", "training.log"), TRAINING),
    "machine.device": TRAINING,
}
"""The settings that `--help` shows, and in which panel."""

SET_BY_VAL = ("data.val_a", "data.val_b", "data.hold_out")
"""Settings that help shows as --val."""


def as_options(model: type[BaseModel], prefix: str = "", panel: Group | None = None) -> type[BaseModel]:
    """The model with the option names and the help panel of each field, nested models included."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            room = Group.create_ordered(SETTINGS + name, (inner.__doc__ or "").partition("\n")[0])
            options = as_options(inner, f"{name}.", room)
            fields[name] = (options, options())
        else:
            setting = prefix + name
            names = dict.fromkeys([option(setting), long_option(setting)])  # help shows the first
            parameter = Parameter(
                name=[*names],
                group=COMMON.get(setting, panel),
                show=setting not in SET_BY_VAL,
                consume_multiple=get_origin(inner) is tuple,
            )
            fields[name] = (Annotated[(inner, *field.metadata, parameter)], field)
    described = {"use_attribute_docstrings": False}  # the fields have their descriptions already
    return create_model(model.__name__, __base__=model, __cls_kwargs__=described, **fields)


if TYPE_CHECKING:
    Options = Settings
else:
    Options = as_options(Settings)


def train(
    a: Path | None = None,
    b: Path | None = None,
    /,
    *,
    settings: Annotated[Options | None, Parameter(name="*")] = None,
    config: Annotated[Path | None, Parameter(name=["--config", "-c"], group=RUN)] = None,
    out: Annotated[Path | None, Parameter(group=RUN)] = None,
    resume: Annotated[Path | None, Parameter(group=RUN)] = None,
    val: Annotated[list[str] | None, Listed, Parameter(group=IMAGES)] = None,
    dry_run: Annotated[Flag, Parameter(group=RUN)] = False,
    profile: Annotated[Flag, Parameter(group=REST)] = False,
    json: Annotated[Flag, Parameter(group=RUN)] = False,
) -> int:
    """Train a model on two folders of images, on a dataset root, or on pairs; or resume a run.

    Example: `twofold train horses zebras --out runs/h2z`. Ctrl-C saves and stops; the same command again resumes.

    Args:
        a: Folder of domain A, with its subfolders; or a dataset root with trainA and trainB, A/train and B/train, or
            train and val of pairs. For pairs: a folder of both, or a list (.csv, .tsv, .jsonl).
        b: Folder of domain B. Pairs in two folders have equal file names.
        config: A YAML file of settings, such as the config.yaml of another run.
        out: The run folder; runs/A2B-METHOD if not given.
        resume: The run folder to resume. A and B are needed only if the images were moved.
        val: Folders of held-out images of A and of B (one folder of pairs), or `none` to hold out nothing; those of
            the dataset root, or a share of A and B, if not given. Add --paired if equal names are pairs.
        dry_run: Print the settings, the images and the memory of the run, and write nothing.
        profile: Write a trace of 10 steps by torch's profiler to RUN/profile.
        json: Print one JSON object a line.
    """
    given = settings.model_dump(exclude_unset=True) if settings else {}
    file = configs.from_file(config) if config else {}
    overrides = configs.merge(file, configs.from_environment(), given, held_out(val))
    overrides = configs.merge(preset_layer(overrides.get("preset")), overrides)
    overrides |= {name: path for name, path in (("a", a), ("b", b)) if path is not None}
    check_run_options(a, out, resume)
    if resume is None:
        configs.reject_other_methods(overrides.get("method", Settings().method), given)
    folder = resume or out or configs.default_out(overrides)
    if resume is None and Run(folder).exists:
        refuse_other_folders(folder, overrides)
    return start(folder, overrides, dry_run=dry_run, profile=profile, json=json)


def check_run_options(a: Path | None, out: Path | None, resume: Path | None) -> None:
    """UsageError unless the options name either a new run or a run to resume."""
    if resume is not None and out is not None:
        raise UsageError(f"--resume {resume} names the run folder already; leave out --out")
    if resume is not None and not Run(resume).exists:
        raise UsageError(
            f"{resume} is not a run folder; start a run with `twofold train A B --out {Run(resume).quoted}`"
        )
    if resume is None and a is None:
        raise UsageError(
            "give two folders or a dataset root: `twofold train A B`; to resume: `twofold train --resume RUN`"
        )


def refuse_other_folders(run: Path, overrides: Layer) -> None:
    """UsageError if a run was started with other folders: only --resume says that they hold the same images."""
    moved = configs.moved(configs.from_file(Run(run).config), overrides)
    if not moved:
        return
    given = {path: str(folder) for path in configs.FOLDERS if (folder := configs.get(overrides, path))}
    words = [given[path] for path in ("a", "b") if path in given]
    if val := [given[path] for path in ("data.val_a", "data.val_b") if path in given]:
        words += ["--val", *val]
    for path in ("data.masks_a", "data.masks_b"):
        words += [option(path), given[path]] if path in given else []
    then = " and ".join(f"{path} = {old}" for path, (old, _) in moved.items())
    raise UsageError(
        f"{run} was started with {then}; if the same images are elsewhere now, type"
        f" `{shlex.join(['twofold', 'train', *words, '--resume', str(run)])}`; for other images give another --out"
    )


def held_out(val: list[str] | None) -> Layer:
    """The settings that --val means: two folders, one folder of pairs, or none."""
    if val is None:
        return {}
    if val == ["none"]:
        return {"data": {"hold_out": False}}
    if len(val) not in (1, 2):
        raise UsageError(
            f"--val takes two folders (of pairs one) or none, not {len(val)} values; write it after A and B"
        )
    return {"data": {f"val_{side}": Path(folder) for side, folder in zip("ab", val, strict=False)}}


def start(run: Path, overrides: Layer, *, dry_run: bool, profile: bool, json: bool) -> int:
    """Train, or print what would be trained; the exit code."""
    from twofold.distributed import launcher
    from twofold.hardware import keep_freed_memory
    from twofold.training import train as training
    from twofold.training.plan import plan as make_plan

    keep_freed_memory()
    with watcher(json) as watching:
        if dry_run:
            plan = make_plan(run, overrides, watching.notify, watching.track)
            emit(dumps(plan | {"config": yaml.safe_load(plan["config"])}) if json else plan_text(plan))
            return 0
        finished = training.start_or_resume(
            run, overrides, watching.notify, watching.progress, watching.track, profile=profile
        )
        if os.environ.get("RANK", "0") == "0":  # one of several processes prints for all
            for line in next_commands(run, finished, launcher()):
                watching.notify(line)
    return 0 if finished else INTERRUPTED


def plan_text(plan: dict[str, Any]) -> str:
    """What --dry-run found: the settings as YAML, then the figures."""
    figures = "\n".join(f"{name + ':':<14}{value}" for name, value in plan.items() if name != "config")
    return f"{plan['config']}\n{figures}"


def next_commands(run: Path, finished: bool, launcher: str = "twofold") -> list[str]:
    if not finished:
        return [f"resume:     {launcher} train --resume {Run(run).quoted}"]
    return [
        f"translate:  twofold translate {Run(run).quoted} IMAGES -o translated",
        *["best:       add --best, the best snapshot on held-out images"] * Run(run).best("ab").is_file(),
        f"report:     {run / 'report.html'}",
    ]
