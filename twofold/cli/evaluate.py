"""`twofold evaluate`: its options, its table on the terminal, and the files it writes."""

import re
import shlex
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twofold.cli.options import Direction, Flag, Listed, Scale
from twofold.cli.terminal import complain, emit, grid, paragraph, tracked
from twofold.errors import UsageError
from twofold.evaluation.settings import MetricName
from twofold.runs import Run

if TYPE_CHECKING:
    from twofold.evaluation.table import Table


def evaluate(
    model: Path | None = None,
    a: Path | None = None,
    b: Path | None = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    direction: Direction | None = None,
    paired: Annotated[bool | None, Parameter(negative="--unpaired")] = None,
    metrics: Annotated[list[MetricName] | None, Listed] = None,
    features: Path | None = None,
    inception: Path | None = None,
    download_weights: Flag = False,
    lpips: Path | None = None,
    best: Flag = False,
    at: Scale = "trained",
    device: str = "auto",
    json: Flag = False,
) -> None:
    """Measure translations of test images, against known answers or against the target domain.

    Example: `twofold evaluate runs/h2z horses zebras`. Each value is a mean over images and half its 95 % interval.

    Args:
        model: A run folder, a .safetensors model, a checkpoint that `twofold import` takes, or a folder of ready
            translations.
        a: Folder of test images of A. With no B: pairs, as a folder of X.jpg with X.png or as a list (.csv,
            .tsv, .jsonl).
        b: Folder of test images of B.
        out: JSON file to write; a new file in the run's folder `evaluations` if not given.
        direction: ab or ba; ab if not given. A model file has its own.
        paired: Images of equal names in A and B are answers to each other; if not given, for data sets that
            `twofold data make` has written.
        metrics: What to measure; everything that applies if not given.
        features: A feature network for FID and KID, TorchScript or ONNX: images (N, 3, H, W) in [-1, 1] to
            (N, D).
        inception: The published Inception weights for FID and KID; from the cache folder if not given.
        download_weights: Download these weights into the cache folder (96 MB). Needs no other argument.
        lpips: Published ImageNet weights of AlexNet or VGG-16, for LPIPS.
        best: Use the run's best snapshot on held-out images, not the newest.
        at: Scale to translate at, as of `twofold translate`.
        device: auto, cpu, cuda, cuda:1, mps.
        json: Print the JSON.
    """
    notify = complain if json else lambda line: emit(paragraph(line))
    if download_weights:
        download(notify)
        if model is None:
            return
    if model is None or a is None:
        raise UsageError("give a run or a model and two folders (or one of pairs): twofold evaluate RUN A B")
    if out is not None and out.is_dir():
        raise UsageError(f"{out} is a folder; give a file: -o {shlex.quote(str(out / 'evaluation.json'))}")
    from twofold.evaluation.evaluate import evaluate as measure

    table = measure(
        model,
        a,
        b,
        paired=paired,
        metrics=metrics,
        direction=direction,
        at=at,
        best=best,
        features=features,
        inception=inception,
        lpips=lpips,
        device=device,
        notify=notify,
        track=tracked,
    )
    try:
        written = write(table, Run(model), out, [each for each in (a, b) if each is not None])
    finally:  # a disk that is full does not lose what took long to measure
        for line in [table.to_json()] if json else lines(table):
            emit(line)
    if written and not json:
        emit(f"written:  {written}")


def download(notify: Callable[[str], None]) -> None:
    """Inception's weights, unless they are there."""
    from twofold.evaluation.features import inception_home
    from twofold.metrics import inception

    home = inception_home()
    if home.is_file():
        notify(f"{home} is there already")
        return
    notify(f"downloading {inception.ADDRESS} ({inception.MEGABYTES} MB)")
    inception.download(home)
    notify(f"written:  {home}")


def write(table: "Table", run: Run, out: Path | None, test: list[Path]) -> Path | None:
    """Write the JSON to `out`, or into the run's folder together with its picture and a new report."""
    from twofold.reporting.report import write_report

    table.details |= {
        "command": shlex.join(["twofold", *sys.argv[1:]]),
        "date": f"{datetime.now().astimezone():%FT%T%z}",
    }
    if out is None and run.exists:
        names = [PurePath(each["file"]).stem for each in table.details["snapshots"][:1]]
        names += [re.sub(r"[^\w.]+", "-", path.resolve().name) for path in test]
        out = table.save_in(run, "-".join(names))
        write_report(run)
    elif out is not None:
        table.save(out)
    return out


def lines(table: "Table") -> list[str]:
    """A table as lines, one for each metric."""
    words = [paragraph(table.summary)] if table.summary else []
    words += [paragraph(note, "- ", "  ") for note in table.notes]
    return ["", table.title, *grid(["", *(row.name for row in table.rows)], table.cells()), *words, ""]
