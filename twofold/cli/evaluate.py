"""`twofold evaluate`: what it takes, what it does, what it says."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twofold.cli.terminal import complain, emit, grid, paragraph, tracked
from twofold.cli.verbs import Direction, Flag, MaybeWhole, Scale
from twofold.errors import UsageError
from twofold.evaluation.settings import MetricName
from twofold.runs import Run

if TYPE_CHECKING:
    from twofold.evaluation.table import Table


def evaluate(
    subject: Path | None = None,
    a: Path | None = None,
    b: Path | None = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    direction: Direction | None = None,
    paired: Annotated[bool | None, Parameter(negative="--unpaired")] = None,
    metrics: Annotated[list[MetricName] | None, Parameter(consume_multiple=True)] = None,
    features: Path | None = None,
    network_size: MaybeWhole = None,
    inception: Path | None = None,
    download_weights: Flag = False,
    lpips: Path | None = None,
    labels: str = "auto",
    segmentation: Path | None = None,
    classifier: Path | None = None,
    classes: Annotated[list[int] | None, Parameter(name="--class", consume_multiple=True)] = None,
    best: Flag = False,
    at: Scale = "trained",
    device: str = "auto",
    json: Flag = False,
) -> None:
    """Measure translations of test images, against known answers or against the other domain's look.

    Every figure is the mean over images and half its 95 % interval. A network of your own is a TorchScript or
    ONNX file that takes images (N, 3, H, W) in [-1, 1].

    Parameters
    ----------
    subject
        A run folder, a .safetensors model, or a folder of ready translations.
    a
        Folder of test images of A; all that translates B to A reads A as its answers. Without B, pairs: a folder
        of X.jpg with X.png, or a list (.csv, .jsonl).
    b
        Folder of test images of B.
    out
        The JSON file to write; evaluation.json in a run's folder if not given.
    direction
        ab or ba; ab if not given. A model file has its own.
    paired
        Images of one name in A and B are each other's answers; if not given, when most have one name.
    metrics
        What to measure, in place of everything that can be.
    features
        A feature network for FID and KID: gives (N, D).
    network_size
        Square of so many pixels that images are resized to before a network of your own sees them.
    inception
        The published weights of FID's Inception; from the cache folder if not given.
    download_weights
        Fetch these weights into the cache folder (96 MB); may stand alone.
    lpips
        Published ImageNet weights of AlexNet or VGG-16, for LPIPS.
    labels
        Where the answers are label maps: auto finds their colours, none leaves labels out, or a file with a
        line for each class, `RED GREEN BLUE NAME`.
    segmentation
        A network that labels images of B, for the FCN score of translated label maps; --labels names its classes.
    classifier
        A classifier of images: gives (N, classes).
    classes
        The numbers that it gives the other domain.
    best
        A run's best snapshot on held-out images, in place of the newest.
    at
        The scale to translate at, as of `twofold translate`.
    device
        auto, cpu, cuda, cuda:1, mps.
    json
        Print the JSON.
    """
    if download_weights:
        fetch(json)
    if subject is None and download_weights:
        return
    if subject is None or a is None:
        raise UsageError(
            "three are needed: `twofold evaluate RUN A B`, a run or a model and two folders (or one of pairs)"
        )
    from twofold.evaluation.evaluate import evaluate as measure
    from twofold.evaluation.subject import Request

    request = Request(
        subject=subject,
        a=a,
        b=b,
        direction=direction,
        pairs=paired,
        metrics=tuple(metrics or ()),
        features=features,
        inception=inception,
        network_size=network_size,
        lpips=lpips,
        classifier=classifier,
        classes=tuple(classes or ()),
        labels=labels,
        segmentation=segmentation,
        device=device,
        at=at,
        best=best,
    )
    table = measure(request, complain if json else notify, tracked)
    written = write(table, subject, out)
    if json:
        emit(table.to_json())
        return
    for line in shown(table):
        emit(line)
    if written:
        emit(f"written:  {written}")


def fetch(quiet: bool) -> None:
    """Inception's weights, unless they are there."""
    from twofold.evaluation.features import inception_home
    from twofold.metrics import inception as network

    tell = complain if quiet else notify
    home = inception_home()
    if home.is_file():
        tell(f"{home} is there already")
        return
    tell(f"fetching {network.ADDRESS} ({network.MEGABYTES} MB)")
    network.download(home)
    tell(f"written:  {home}")


def notify(line: str) -> None:
    emit(paragraph(line))


def write(table: "Table", subject: Path, out: Path | None) -> Path | None:
    """The JSON where it was asked for, and into a run's folder with its picture and the report that shows both."""
    from twofold.files import write_atomically
    from twofold.reporting.report import write_report

    run = Run(subject)
    if run.exists and out is None:
        table.picture_in(run.path)
        write_atomically(run.evaluation, table.to_json())
        write_report(run)
        return run.evaluation
    if out is not None:
        if out.is_dir():
            raise UsageError(f"{out} is a folder; give a file: -o {out / 'evaluation.json'}")
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, table.to_json())
    return out


def shown(table: "Table") -> list[str]:
    """A table as lines: a line for each measure."""
    lines = ["", table.title, *grid(["", *(row.name for row in table.rows)], table.cells())]
    lines += [paragraph(table.summary)] if table.summary else []
    lines += [paragraph(note, "- ", "  ") for note in table.notes]
    return [*lines, ""] if table.summary or table.notes else lines
