"""The verbs of the command line besides `train`: what they take, what they do, what they say."""

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter, Token

from twofold import config as configs
from twofold.errors import TwofoldError, UsageError
from twofold.presets import PRESETS
from twofold.presets import commands as preset_commands
from twofold.presets import find as find_preset
from twofold.runs import Run, read_lines
from twofold.terminal import complain, emit, paragraph, spelled, tracked, watcher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twofold.translation.sources import Job

FAILED, USAGE, SOME_FAILED, INTERRUPTED = 1, 2, 3, 130

Direction = Literal["ab", "ba"]


def whole(_: object, tokens: Sequence[Token]) -> int:
    """A whole number; without this, 1.5 would be rounded."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


def scale(_: object, tokens: Sequence[Token]) -> int | str:
    value = tokens[0].value
    if value in ("trained", "native"):
        return value
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{value!r} is neither trained nor native nor a number of pixels")
    return int(value)


Whole = Annotated[int, Parameter(converter=whole)]
MaybeWhole = Annotated[int | None, Parameter(converter=whole)]
Scale = Annotated[int | Literal["trained", "native"], Parameter(converter=scale)]
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]


class Translated(NamedTuple):
    """An image on its way from file to file."""

    job: "Job"
    image: "NDArray[np.uint8] | None"
    problem: str


def translate(
    model: Path,
    /,
    *inputs: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    direction: Direction | None = None,
    at: Scale = "trained",
    format: Literal["png", "jpg", "webp", "npy"] | None = None,
    noise: Annotated[bool | None, Parameter(negative="--no-noise")] = None,
    seed: Whole = 0,
    best: Flag = False,
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
        ab or ba; ab if not given. A model file has its own.
    at
        The scale the network works at: `trained` as it saw images in training, `native` at their own pixels, or
        a number of pixels for the mean side.
    format
        What the results are written as; png if not given, npy where no picture has so many channels.
    noise
        Whether the network's dropout is on; it is for pix2pix models, whose noise it is.
    seed
        Of that noise.
    best
        A run's best snapshot on held-out images, in place of the newest.
    device
        auto, cpu, cuda, cuda:1, mps.
    """
    from twofold import images
    from twofold.data.ahead import ahead
    from twofold.translation.sources import plan
    from twofold.translation.translator import Translator

    if not inputs:
        raise UsageError(f"nothing to translate: `twofold translate {model} IMAGES -o {out}`")
    translator = Translator.load(model, direction=direction, device=device, noise=noise, seed=seed, best=best)
    suffix = format or ("png" if translator.out_channels in (1, 3, 4) else "npy")
    jobs = plan(inputs, out, f".{suffix}")
    jobs[0].target.parent.mkdir(parents=True, exist_ok=True)

    def read(job: "Job") -> Translated:
        try:
            return Translated(job, images.read(job.source, translator.channels), "")
        except TwofoldError as error:
            return Translated(job, None, str(error).removeprefix(f"{job.source}: "))

    def through(one: Translated) -> Translated:
        try:
            return one if one.image is None else one._replace(image=translator.array(one.image, at))
        except TwofoldError as error:
            return Translated(one.job, None, str(error))

    def write(one: Translated) -> Translated:
        if one.image is not None:
            images.write(one.image, one.job.target)
        return one

    # Two threads read ahead and one writes behind; `through` runs in this one, when `ahead` asks for the next.
    passed = map(through, ahead(read, jobs, threads=2, depth=3))
    problems = []
    for one in tracked(ahead(write, passed, threads=1, depth=2), len(jobs), "translating"):
        if one.problem:
            problems.append(one.problem)
            complain(f"skipped {one.job.source}: {one.problem}")
    place = jobs[0].target if len(jobs) == 1 else out
    emit(f"{len(jobs) - len(problems)} of {len(jobs)} images translated to {place}")
    if problems:
        return SOME_FAILED if len(problems) < len(jobs) else FAILED
    return 0


def info(model: Path, /, *, direction: Direction | None = None, json: Flag = False) -> None:
    """Say what a run or a model is.

    Parameters
    ----------
    model
        A run folder, or a .safetensors model.
    direction
        Which of a run's two models; ab if not given.
    json
        Print JSON.
    """
    from dataclasses import asdict

    from twofold.translation.model import read_header

    run = Run(model)
    facts: dict[str, Any] = {}
    if run.exists:
        stored = configs.from_file(run.config)
        facts = {key: stored.get(key) for key in ("method", "preset", "a", "b")}
        facts["states"] = [images for images, _ in run.states()]
        facts["metrics"] = (read_lines(run.metrics) or [{}])[-1]
    if not run.exists or run.snapshots(direction or "ab"):
        file = run.newest_snapshot(direction or "ab") if model.is_dir() else model
        megabytes = round(file.stat().st_size / 1e6, 1) if file.is_file() else 0
        header = asdict(read_header(file))
        header["network"] = {
            "network": header["network"].get("network"),
            **header["network"],
        }  # the name first
        facts = {"model": str(file), **header, "megabytes": megabytes} | facts
    if json:
        emit(dumps(facts, default=str))
    else:
        for key, value in facts.items():
            emit(paragraph(spelled(value), f"{key + ':':<12}", " " * 12))


def import_(
    checkpoint: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    direction: Direction = "ab",
    size: MaybeWhole = None,
    dropout: Flag = False,
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
        For a U-Net trained with dropout, as pix2pix is by default; its keys cannot tell.
    """
    from twofold.exchange.original import generator_from_original, read_pth
    from twofold.networks.registry import describe
    from twofold.translation.model import MAX_SIZE, Header, save

    if out.suffix != ".safetensors":
        raise UsageError(f"a model's name ends in .safetensors: -o {out.with_suffix('.safetensors')}")
    if not checkpoint.is_file():
        raise UsageError(f"there is no file {checkpoint}")
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise UsageError(f"--size is {size}; give 1 to {MAX_SIZE} pixels")
    generator = generator_from_original(read_pth(checkpoint), dropout=dropout)
    noise = bool(generator.arguments["dropout"])  # which the originals leave on when they test
    save(generator, Header(describe(generator), direction, size, {"imported": "junyanz"}, noise), out)
    emit(paragraph(f"{out}: {spelled(describe(generator))}"))


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
    emit(str(write_report(Run(run))))


def doctor(run: Path, /, *, json: Flag = False) -> int:
    """Say what is wrong with a run, whether it is going on or done, and what to try next.

    Parameters
    ----------
    run
        A run folder.
    json
        Print JSON.
    """
    from twofold.evaluation.doctor import calm, examine

    if not run.is_dir():
        raise UsageError(f"there is no run in {run}")
    findings = examine(Run(run), models=True)
    if json:
        emit(dumps([each._asdict() for each in findings]))
    for each in [] if json else findings:
        emit(paragraph(each.sentence, f"{each.severity + ':':<9}", " " * 9))
        emit(paragraph(each.advice, "    try: ", " " * 9))
    if not findings and not json:
        emit(paragraph(calm(Run(run))))
    return FAILED if any(each.severity == "trouble" for each in findings) else 0


def presets(name: str | None = None, /) -> None:
    """List the published recipes; with NAME, say what one sets, where each value is from, and what to type.

    Parameters
    ----------
    name
        The preset.
    """
    if name is None:
        group = ""
        for each, preset in PRESETS.items():
            if preset.group != group:
                group = preset.group
                emit(f"{group}:")
            emit(f"  {each:<24}{preset.what}")
        emit("in full: twofold presets NAME        use one: twofold train A B --preset NAME")
        return
    preset = find_preset(name)
    emit(f"{name}: {preset.what}")
    emit(paragraph(preset.source))
    emit(f"--method {preset.method}")
    for path, (value, source) in preset.values.items():
        emit(f"--{path.replace('_', '-')} {value}")
        emit(paragraph(source, "    ", "    "))
    for line in preset_commands(name):
        emit(line)


def demo(*, out: Path = Path("demo"), quick: Flag = False) -> int:
    """Make the built-in pictures, train on them, translate, and say what came out. A few minutes.

    Parameters
    ----------
    out
        Folder for the pictures, the run and the translations.
    quick
        A few steps only: shows that everything works, and no more.
    """
    from twofold.demo import demonstrate

    with watcher(False) as watching:
        finished = demonstrate(out, quick, watching)
    return 0 if finished else INTERRUPTED
