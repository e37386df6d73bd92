"""The smaller verbs of the command line: what they take, what they do, what they say."""

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

from twofold import config as configs
from twofold.cli.terminal import emit, paragraph, spelled, watcher
from twofold.errors import FAILED, INTERRUPTED, UsageError
from twofold.presets import PRESETS
from twofold.presets import commands as preset_commands
from twofold.presets import find as find_preset
from twofold.runs import Run, read_lines

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

    from twofold.translation.header import read_header

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
    from twofold.translation.header import MAX_SIZE, Header
    from twofold.translation.model_file import save

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
    from twofold.reporting.report import write_report

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
    from twofold.evaluation.doctor.examine import calm, examine

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
