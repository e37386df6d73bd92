"""`twofold.evaluate`: from a model and two folders of test images to a table. Read `evaluate` from top to bottom."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twofold.data import cache
from twofold.errors import UsageError
from twofold.evaluation.inputs import Inputs, Item, Model, find_inputs
from twofold.evaluation.measures import Measure, Sample
from twofold.evaluation.reading import read_as
from twofold.evaluation.selection import choose
from twofold.evaluation.table import Row, Table, contact_sheet, six_digits
from twofold.evaluation.verdict import differences, verdict
from twofold.formats.contract import Pixels
from twofold.formats.values import Uint8
from twofold.prefetch import prefetch
from twofold.runs import Notify, Track, untracked
from twofold.translation.translator import At

SHOWN = 8
"""Test images on the contact sheet."""


def evaluate(
    model: Model,
    a: str | Path,
    b: str | Path | None = None,
    *,
    paired: bool | None = None,
    metrics: Sequence[str] | None = None,
    direction: str | None = None,
    at: At = "trained",
    best: bool = False,
    features: str | Path | None = None,
    inception: str | Path | None = None,
    lpips: str | Path | None = None,
    device: str = "auto",
    notify: Notify = lambda line: None,  # noqa: ARG005
    track: Track = untracked,
) -> Table:
    """Measure the translations of test images, against known answers or against the target domain.

    >>> table = twofold.evaluate("runs/h2z", "testA", "testB", metrics=["psnr", "ssim"])
    >>> print(table)
    >>> table.rows[0].values["PSNR (dB)"].value

    Args:
        model: a run folder, a model file, a `Translator`, or a folder of ready translations.
        a, b: folders of test images. Without `b`, `a` holds pairs: a folder of X.jpg with X.png, or a list of pairs.
        paired: whether images of equal names are answers to each other; if None, where a marker of
            the data set says so.
        metrics: of psnr, ssim, ms-ssim, mae, lpips, labels, fid, clean-fid, kid, swd, structure, alignment, cycle;
            all that apply if None, but swd only where no answers are known.
        direction: "ab" or "ba"; a run's "ab" if None. A model file has its own.
        at: the scale to translate at, as of `Translator`.
        best: of a run, the best snapshot on held-out images in place of the newest.
        features: a feature network for FID and KID, TorchScript or ONNX, from (N, 3, H, W) in [-1, 1] to (N, D).
        inception: FID's published weights; from the cache folder if None. lpips: AlexNet's or VGG-16's.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        notify: is called with a line about the answers that were found.

    Returns:
        The table, with a 95 % interval for every value where there are at least 5 images.

    Raises:
        UsageError: something is missing or does not fit, or a metric named in `metrics` does not apply.
    """
    inputs, line = find_inputs(
        model, Path(a), None if b is None else Path(b), direction, paired, best, device
    )
    if line:
        notify(line)
    files = {"features": features, "inception": inception, "lpips": lpips}
    paths = {name: Path(file) for name, file in files.items() if file is not None}
    measures, notes = choose(inputs := replace(inputs, metrics=tuple(metrics or ()), **paths))

    pairs = [(each, each.for_sources()) for each in measures if inputs.comparable and each.for_sources]
    floors = [floor for _, floor in pairs]
    shown: list[list[Uint8]] = []
    for sample in track(translations(inputs, at), len(inputs.items), "evaluating"):
        for measure in measures:
            measure.add(sample)
        for floor in floors:
            floor.add(sample._replace(output=sample.source))
        if len(shown) < SHOWN:
            shown.append(pictures(sample, inputs))
    rows = [to_row("translated", measures), *([to_row("untouched", floors)] if floors else [])]

    source, target = inputs.direction.upper()
    columns = [column for measure in measures for column in measure.columns]
    count = f"{len(inputs.items):,} test image{'' if len(inputs.items) == 1 else 's'}"
    table = Table(f"{source} to {target}, on {count}", columns, rows, notes=[*inputs.notes, *notes])
    if floors:
        found = differences(pairs, table)
        table.summary = verdict(columns, found, len(inputs.items))
        table.details["differences"] = {
            name: [six_digits(part) for part in each] for name, each in found.items()
        }
    table.details |= origin(inputs, a, b, at) | {"per_image": per_image(inputs, measures, floors)}
    for measure in measures:
        measure.complete(table, measure.values)
    table.sheet = contact_sheet(shown)
    table.caption = ", ".join(["source", "translated", *["answer"] * inputs.answered])
    return table


def translations(inputs: Inputs, at: At) -> Iterator[Sample]:
    """Every test image with its translation, made now, neighbours of one size together, or read."""
    into, out, there = inputs.source.contract, inputs.target.contract, inputs.there

    def read(item: Item) -> tuple[Pixels | None, ...]:
        wanted = ((item.source, into), (item.output, out), (item.answer, out))
        return tuple(None if path is None else read_as(path, each, inputs.layout) for path, each in wanted)

    most = 1 if there is None else there.batch_size(at)
    pixels = prefetch(read, inputs.items, threads=1, depth=2 + most)
    numbers = itertools.count()
    for _, of_one_size in itertools.groupby(pixels, lambda each: None if each[0] is None else each[0].shape):
        while batch := [*itertools.islice(of_one_size, most)]:
            sources = [source for source, output, _ in batch if source is not None and output is None]
            made = iter(there.arrays(sources, at) if there is not None and sources else [])
            for source, output, answer in batch:
                yield checked(inputs, next(numbers), source, next(made) if output is None else output, answer)


def checked(
    inputs: Inputs, number: int, source: Pixels | None, output: Pixels, answer: Pixels | None
) -> Sample:
    item = inputs.items[number]
    check_size("translation of", item.output or item.source, output, item, answer)
    if inputs.comparable:
        check_size("source", item.source, source, item, answer)
    return Sample(number, output if source is None else source, output, answer)


def check_size(kind: str, path: Path | None, image: Pixels | None, item: Item, answer: Pixels | None) -> None:
    if image is not None and answer is not None and answer.shape[:2] != image.shape[:2]:
        (rows, columns), (high, wide) = image.shape[:2], answer.shape[:2]
        raise UsageError(
            f"the {kind} {path} has {columns}×{rows} pixels and the answer {item.answer} {wide}×{high}; resize them to"
            " one size, or use --unpaired"
        )


def pictures(sample: Sample, inputs: Inputs) -> list[Uint8]:
    """The source, the translation and the answer of one image, to look at."""
    views = (inputs.source, inputs.target, inputs.target)
    return [view.show(x) for view, x in zip(views, sample[1:], strict=True) if x is not None]


def to_row(name: str, measures: Sequence[Measure]) -> Row:
    return Row(name, {column: found for each in measures for column, found in each.estimates().items()})


def origin(inputs: Inputs, a: str | Path, b: str | Path | None, at: At) -> dict[str, Any]:
    """What was measured: the snapshots and the test images with their hashes (BLAKE2b, 128 bits), and the scale."""
    used = sorted({path for item in inputs.items for path in item if path} | {*inputs.references})
    digest = hashlib.blake2b(digest_size=16)
    for path in used:
        digest.update(f"{path.name} {cache.hash_file(path)}\n".encode(errors="surrogateescape"))
    return {
        "direction": inputs.direction,
        "images": len(inputs.items),
        "at": at,
        "snapshots": [{"file": path.name, "hash": cache.hash_file(path)} for path in inputs.snapshots],
        "test": {"a": str(a), "b": None if b is None else str(b), "hash": digest.hexdigest()},
    }


def per_image(inputs: Inputs, measures: Sequence[Measure], floors: Sequence[Measure]) -> dict[str, Any]:
    """The names of the test images, and of each row and metric the value of each image."""
    rows = {
        name: {
            column: [six_digits(value) for value in values]
            for each in row
            for column, values in each.of_images().items()
        }
        for name, row in (("translated", measures), ("untouched", floors))
        if row
    }
    paths = [item.source or item.output for item in inputs.items]
    return {"names": [path.name for path in paths if path is not None]} | rows
