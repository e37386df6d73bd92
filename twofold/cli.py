"""The command line: the verbs, the only parser, and what is printed."""

import os
import sys
from collections.abc import Iterable, Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import App, CycloptsError, Group, Parameter

from twofold import config as configs
from twofold.config import Settings
from twofold.errors import TwofoldError, UsageError
from twofold.methods.settings import MethodName
from twofold.presets import PRESETS
from twofold.presets import layer as preset_layer
from twofold.runs import Run, read_lines

T = TypeVar("T")
Direction = Literal["ab", "ba"]
FAILED, USAGE, SOME_FAILED, INTERRUPTED = 1, 2, 3, 130

app = App(
    name="twofold",
    help="Two folders of images in, a translator out.\n\n`twofold demo` shows the whole thing in a few minutes.",
    version_flags=["--version"],
    result_action="return_value",
)
data = App(name="data", help="Look at image folders, or make some.")
app.command(data)
ALL = Group("Every setting", help="Also in a YAML file (-c) or as TWOFOLD_SET_OPTIM__LR=1e-4.", sort_key=2)


def main() -> None:
    """The `twofold` command."""
    sys.exit(run(sys.argv[1:]))


def run(tokens: list[str]) -> int:
    """Run one command and give its exit code: 0 done, 1 failed, 2 usage, 3 some inputs failed, 130 interrupted."""
    try:
        code = app(tokens or ["--help"], exit_on_error=False, print_error=False)
    except TwofoldError as error:
        return fail(str(error), error.exit_code)
    except CycloptsError as error:
        cause = error.__cause__
        message = configs.explain(cause) if isinstance(cause, configs.ValidationError) else str(error)
        return fail(message, USAGE)
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code if isinstance(code, int) else 0


def fail(message: str, code: int) -> int:
    print(f"twofold: {' '.join(message.split())}", file=sys.stderr)
    return code


@app.command
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
    size: int | None = None,
    epochs: float | None = None,
    decay_epochs: float | None = None,
    batch: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    val: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    cache: bool | None = None,
    dry_run: bool = False,
    json: bool = False,
    settings: Annotated[Settings | None, Parameter(name="*", group=ALL)] = None,
) -> int:
    """Train a translator between two folders of images that are not paired; or go on with a run.

    Ctrl-C saves and stops; the same command again goes on where it stopped.

    Parameters
    ----------
    a
        Folder of domain A, searched with its subfolders.
    b
        Folder of domain B.
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
    val
        Two folders of held-out images, or `none` to train on everything.
    cache
        --no-cache decodes each image whenever it is used.
    dry_run
        Print what would be trained, and write nothing.
    json
        One JSON object a line.
    """
    short = {
        "method": method,
        "seed": seed,
        "data.size": size,
        "data.cache": cache,
        "training.epochs": epochs,
        "training.decay_epochs": decay_epochs,
        "training.batch": batch,
        "machine.device": device,
        **held_out(val),
    }
    said = configs.merge(
        preset_layer(preset),
        configs.from_file(config) if config else {},
        configs.from_environment(),
        settings.model_dump(exclude_unset=True) if settings else {},
        configs.nest({path: value for path, value in short.items() if value is not None}),
    )
    said |= {name: path.absolute() for name, path in (("a", a), ("b", b)) if path is not None}
    if resume is not None and not Run(resume).exists:
        raise UsageError(f"there is no run in {resume}; start one with `twofold train A B --out {resume}`")
    if resume is None and (a is None or b is None):
        raise UsageError("two folders are needed: `twofold train A B`; or `twofold train --resume RUN`")
    run_folder = resume or out or configs.default_out(said)
    from twofold import terminal
    from twofold.training import loop

    if dry_run:
        print_plan(loop.plan(run_folder, said, print))
        return 0
    with terminal.watcher(json) as watching:
        finished = loop.train(run_folder, said, watching)
        if finished:
            watching.say(f"translate:  twofold translate {run_folder} IMAGES -o translated")
            watching.say(f"look:       {run_folder / 'report.html'}")
        else:
            watching.say(f"go on:      twofold train --resume {run_folder}")
    return 0 if finished else INTERRUPTED


def held_out(val: list[str] | None) -> dict[str, Any]:
    """What --val says: two folders, or none."""
    if val is None:
        return {}
    if val == ["none"]:
        return {"data.hold_out": False}
    if len(val) != 2:
        raise UsageError("--val takes two folders, of A and of B, or none")
    return {"data.val_a": Path(val[0]).absolute(), "data.val_b": Path(val[1]).absolute()}


def print_plan(plan: dict[str, Any]) -> None:
    """What --dry-run shows."""
    print(plan.pop("config"))
    for name, value in plan.items():
        print(f"{name + ':':<14}{value}")


@app.command
def translate(
    model: Path,
    /,
    *inputs: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    direction: Direction = "ab",
    at: int | Literal["trained", "native"] = "trained",
    format: Literal["png", "jpg", "webp"] = "png",
    device: str = "auto",
) -> int:
    """Translate images and folders of images; each comes back at its own size.

    Parameters
    ----------
    model
        A run folder, or a .safetensors model.
    inputs
        Image files and folders; folders are searched with their subfolders.
    out
        The folder for the results; for one image also a file name.
    direction
        ab or ba; a model file has its own.
    at
        The scale the network works at: `trained` as it saw images in training, `native` at their own pixels, or
        a number of pixels for the mean side.
    format
        What the results are written as.
    device
        auto, cpu, cuda, cuda:1, mps.
    """
    from twofold import images
    from twofold.translation.sources import plan
    from twofold.translation.translator import Translator

    if not inputs:
        raise UsageError(f"nothing to translate: `twofold translate {model} IMAGES -o {out}`")
    jobs = plan(list(inputs), out, f".{format}")
    translator = Translator.load(model, direction=direction, device=device)
    failed = 0
    for job in track(jobs, "translating"):
        try:
            images.write(translator.array(images.read(job.source, translator.channels), at), job.target)
        except TwofoldError as error:
            failed += 1
            fail(f"skipped {job.source}: {error}", SOME_FAILED)
    print(f"{len(jobs) - failed} of {len(jobs)} images translated to {out}")
    if failed:
        return SOME_FAILED if failed < len(jobs) else FAILED
    return 0


def track(jobs: Sequence[T], what: str) -> Iterable[T]:
    """The same, with a progress bar where there is a terminal."""
    from rich.console import Console
    from rich.progress import track as bar

    console = Console(stderr=True)
    return bar(jobs, what, console=console, transient=True) if console.is_terminal else jobs


@app.command
def info(model: Path, /, *, direction: Direction = "ab", json: bool = False) -> None:
    """Say what a run or a model is.

    Parameters
    ----------
    model
        A run folder, or a .safetensors model.
    direction
        Which of a run's two models.
    json
        Print JSON.
    """
    from dataclasses import asdict

    from twofold.translation.model import read_header

    run = Run(model)
    file = run.newest_snapshot(direction) if model.is_dir() else model
    facts: dict[str, Any] = {"model": str(file), **asdict(read_header(file)), "megabytes": megabytes(file)}
    if run.exists:
        stored = configs.from_file(run.config)
        facts |= {key: stored[key] for key in ("method", "preset", "a", "b")}
        facts |= {
            "states": [images for images, _ in run.states()],
            "metrics": (read_lines(run.metrics) or [{}])[-1],
        }
    if json:
        print(dumps(facts, default=str))
    else:
        for key, value in facts.items():
            print(f"{key + ':':<11} {spelled(value)}")


def spelled(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {spelled(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(spelled(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def megabytes(file: Path) -> float:
    return round(file.stat().st_size / 1e6, 1)


@app.command(name="import")
def import_(
    checkpoint: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    direction: Direction = "ab",
    size: int | None = None,
    dropout: bool = False,
) -> None:
    """Turn a generator of the original implementation (.pth) into a twofold model.

    Parameters
    ----------
    checkpoint
        Such as latest_net_G_A.pth. Only tensors are read; no code in it is run.
    out
        The .safetensors file to write.
    direction
        What the model is for; G_A of a CycleGAN is ab, G_B is ba.
    size
        The size it was trained at, so that pictures are translated at that scale; their own scale if not given.
    dropout
        For a U-Net trained with dropout; its keys cannot tell.
    """
    from twofold.exchange.original import generator_from_original, read_pth
    from twofold.networks.registry import describe
    from twofold.translation.model import Header, save

    if out.suffix != ".safetensors":
        raise UsageError(f"a model's name ends in .safetensors: -o {out.with_suffix('.safetensors')}")
    generator = generator_from_original(read_pth(checkpoint), dropout=dropout)
    save(generator, Header(describe(generator), direction, size, {"imported": "junyanz"}), out)
    print(f"{out}: {spelled(describe(generator))}")


@app.command
def report(run: Path, /) -> None:
    """Write RUN/report.html anew and say where it is.

    Parameters
    ----------
    run
        A run folder.
    """
    from twofold.training.report import write_report

    if not Run(run).exists:
        raise UsageError(f"there is no run in {run}")
    print(write_report(Run(run)))


@app.command
def presets() -> None:
    """List the published recipes: what each sets, and where it is from."""
    for name, preset in PRESETS.items():
        print(f"{name}: {preset.what}\n    {preset.source}")
        for path, value in configs.flatten(preset.settings):
            print(f"    --{path} {value}")


@app.command
def demo(
    *,
    out: Path = Path("demo"),
    quick: bool = False,
) -> int:
    """Make the built-in pictures, train on them, translate, and say what came out. A few minutes.

    Parameters
    ----------
    out
        Folder for the pictures, the run and the translations.
    quick
        A few steps only: shows that everything works, and no more.
    """
    from twofold import terminal
    from twofold.demo import demonstrate

    with terminal.watcher(False) as watching:
        finished = demonstrate(out, quick, watching)
    return 0 if finished else INTERRUPTED


@data.command
def check(a: Path, b: Path | None = None, /, *, size: int = 256) -> int:
    """Look at one or two folders of images as a training would, and say what is wrong.

    Parameters
    ----------
    a
        A folder of images.
    b
        The other domain's.
    size
        The training size they are checked for.
    """
    from twofold.data import check as checks
    from twofold.data.settings import DataSettings

    findings = checks.check(a, b, DataSettings(size=size))
    print(findings)
    return 0


@data.command
def make(
    what: Literal["seasons"],
    out: Path,
    /,
    *,
    count: Annotated[int, Parameter(validator=None)] = 400,
    size: int = 128,
    seed: int = 0,
) -> None:
    """Make the built-in pictures: summer and winter landscapes, with known answers in val and test.

    Parameters
    ----------
    what
        The data set.
    out
        A new folder; trainA, trainB, valA, valB, testA and testB go there.
    count
        Images in each of trainA and trainB.
    size
        Their side in pixels.
    seed
        Other numbers give other pictures.
    """
    from twofold.data import seasons

    assert what == "seasons"
    seasons.make(out, count, size, seed, print)
