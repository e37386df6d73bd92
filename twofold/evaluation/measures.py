"""The measures: each is given one test image after the other, then estimates its columns for one row of the table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twofold.evaluation import cycle
from twofold.evaluation.cycle import CycleError, Damage, holds_jpeg
from twofold.evaluation.features import BATCH, Network, features, features_of_files, planes, stacked
from twofold.evaluation.inputs import Inputs
from twofold.evaluation.reading import read_as
from twofold.evaluation.table import Column, Table
from twofold.formats import images
from twofold.formats.contract import Contract, Pixels
from twofold.formats.display import View, scaled
from twofold.formats.values import UINT8, Uint8, to_network
from twofold.metrics import lpips
from twofold.metrics.alignment import edges_moved
from twofold.metrics.distribution import Estimate, fid, kid, mean_estimate
from twofold.metrics.image import limits_of, mae, ms_ssim, psnr, ssim
from twofold.metrics.structure import UNCHANGED_LEVELS, hides_source, structure_kept
from twofold.metrics.swd import Patches, SlicedWasserstein


class Sample(NamedTuple):
    """One test image, each array (H, W, C) as stored."""

    number: int
    source: Pixels
    output: Pixels
    answer: Pixels | None


@dataclass
class Measure:
    """What is measured for one row of the table.

    Attributes:
        value: of one image; None where this image is not measured.
        summarise: from the values of all images, one estimate for each column; the means if None.
        for_sources: makes the same measure for the untouched sources; None if it says nothing about them.
        complete: adds rows, details or sentences to the finished table, from the table and the values.
    """

    columns: Sequence[Column]
    value: Callable[[Sample], Any]
    summarise: Callable[[list[Any]], list[Estimate]] | None = None
    for_sources: "Callable[[], Measure] | None" = None
    complete: Callable[[Table, list[Any]], None] = lambda table, values: None  # noqa: ARG005
    notes: Sequence[str] = ()
    values: list[Any] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.values.append(self.value(sample))

    def estimates(self) -> dict[str, Estimate]:
        """By the names of the columns."""
        if self.summarise is not None:
            names = [column.name for column in self.columns]
            return dict(zip(names, self.summarise(self.values), strict=True))
        known = {
            name: [value for value in column if not math.isnan(value)]
            for name, column in self.of_images().items()
        }
        return {name: mean_estimate(column or [math.nan], name) for name, column in known.items()}

    def of_images(self) -> dict[str, list[float]]:
        """By the names of the columns, the value of each image, NaN where it has none; empty where only sets have."""
        if self.summarise is not None:
            return {}
        rows = [[math.nan] * len(self.columns) if row is None else row for row in self.values]
        return {column.name: [row[place] for row in rows] for place, column in enumerate(self.columns)}


# ---- against the answers


def answer_measure(column: Column, metric: Callable[[Pixels, Pixels], float]) -> Measure:
    """A metric of a translation and its answer."""

    def value(sample: Sample) -> list[float]:
        assert sample.answer is not None
        return [metric(sample.output, sample.answer)]

    return Measure([column], value, for_sources=lambda: answer_measure(column, metric))


def ranged_measure(column: Column, metric: Callable[..., float], contract: Contract = UINT8) -> Measure:
    """A metric that is relative to the range of the contract."""
    return answer_measure(column, partial(metric, limits=limits_of(contract)))


PSNR, SSIM, MS_SSIM = (
    partial(ranged_measure, Column(name, "higher"), metric)
    for name, metric in (("PSNR (dB)", psnr), ("SSIM", ssim), ("MS-SSIM", ms_ssim))
)


def mae_measure(contract: Contract) -> Measure:
    """The error in the stored values' own units, which only the user knows."""
    measure, signed = answer_measure(Column("MAE", "lower"), mae), not contract.dtype.startswith("u")
    units = f"the units of the stored {contract.dtype} values" + "; of CT, in Hounsfield units" * signed
    measure.notes = [f"MAE: mean absolute error in {units}."]
    return measure


def lpips_measure(inputs: Inputs) -> Measure:
    assert inputs.lpips is not None
    network = lpips.load(inputs.lpips).to(inputs.device)

    @torch.inference_mode()
    def distance(*pair: Pixels) -> float:
        pictures = (planes(inputs.target.show(image)).to(inputs.device) for image in pair)
        return float(network(*map(images.to_float, pictures)))

    return answer_measure(Column("LPIPS", "lower"), distance)


# ---- against the target domain


LABELS = {"fid": "FID", "kid": "KID", "clean-fid": "clean-FID"}


def feature_measure(network: Network, names: Sequence[str], inputs: Inputs) -> Measure:
    """FID and KID: how far a network's features of the translations are from those of the target domain."""

    def of_files(paths: Sequence[Path]) -> NDArray[np.float32]:
        return features_of_files(network, paths, inputs.target, inputs.layout, inputs.device)

    waiting: list[Uint8] = []
    made: list[NDArray[np.float32]] = []

    def value(sample: Sample) -> None:
        waiting.append(inputs.target.show(sample.output))
        if len(waiting) == BATCH:
            look()

    def look() -> None:
        if waiting:
            made.append(features(network, waiting, inputs.device))
            waiting.clear()

    def estimates(parts: Sequence[NDArray[np.float32]]) -> list[Estimate]:
        real = of_files(inputs.references)
        rows = stacked(network, [*parts, real]).astype(np.float64)
        x, y = rows[: -len(real)], rows[-len(real) :]
        return [kid(x, y) if name == "kid" else fid(x, y) for name in names]

    def summarise(_: Sequence[Any]) -> list[Estimate]:
        look()
        return estimates(made)

    def for_sources() -> Measure:
        """Their features come from the cache."""
        return Measure(columns, lambda _: None, lambda _: estimates([of_files(inputs.sources)]))

    columns = [Column(f"{LABELS[name]} ({network.name})", "lower") for name in names]
    return Measure(columns, value, summarise, for_sources)


def patch_measure(inputs: Inputs) -> Measure:
    """The sliced Wasserstein distance, the same as during a run where the images have the size of training."""
    contract, real = inputs.target.contract, inputs.references
    files = [path for item in inputs.items for path in item if path is not None]
    side = min(min(inputs.size(path)) for path in (*files, *real))

    def values(image: Pixels) -> Tensor:
        return to_network(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), contract)

    references = (values(read_as(path, contract, inputs.layout)) for path in real)
    reference = SlicedWasserstein(references, len(real), side)

    def measure() -> Measure:
        def value(sample: Sample) -> Patches:
            return reference.patches(values(sample.output), sample.number, len(inputs.items))

        return Measure([Column("SWD", "lower")], value, lambda rows: [reference.distance(rows)], measure)

    return measure()


# ---- against the source


def structure_measure(inputs: Inputs) -> Measure:
    """How much of the source the translation keeps; says so where it keeps everything."""
    changes: list[float] = []

    def value(sample: Sample) -> tuple[float, float]:
        source, output = in_levels(sample, inputs)
        if source.shape == output.shape:
            changes.append(mae(source, output))
        return structure_kept(source, output)

    def complete(table: Table, values: list[Any]) -> None:
        if len(changes) == len(values) and np.mean(changes) < UNCHANGED_LEVELS:
            table.add(
                f"The translations are copies of their sources: pixels change by {np.mean(changes):.2g} of 255 levels."
            )

    return Measure([Column("luminance kept", ""), Column("edges kept", "")], value, complete=complete)


def alignment_measure(inputs: Inputs) -> Measure:
    def value(sample: Sample) -> list[float]:
        return [edges_moved(*in_levels(sample, inputs))]

    def complete(table: Table, values: list[list[float]]) -> None:
        known = sum(not math.isnan(each) for (each,) in values)
        if known < len(values):
            table.notes.append(
                f"Edges moved: found in {known:,} of {len(values):,} images; the others have too few edges in common"
                " with their sources."
            )

    return Measure([Column("edges moved (px)", "lower")], value, complete=complete)


def in_levels(sample: Sample, inputs: Inputs) -> tuple[Pixels, Pixels]:
    """The source and the translation with their ranges as 0..255."""
    return levels(sample.source, inputs.source), levels(sample.output, inputs.target)


def levels(image: Pixels, view: View) -> Pixels:
    """An image with its range as 0..255, all channels; of label maps the colours that are shown."""
    return view.show(image) if view.contract.labels else scaled(image, view.contract)


QUALITY, SIGMA = 75, 2.0
"""Of the JPEG, and of the noise in levels of 255, that a translation should survive."""


def damages(contract: Contract = UINT8) -> dict[Column, Damage]:
    """What happens to a translation of a domain before it is translated back; noise alone where no JPEG holds it."""
    bits = "8 bits" if contract.dtype == "uint8" else f"stored as {contract.dtype}"
    found = {
        Column("cycle error (of 255)", "lower"): cycle.no_damage,
        Column(f"cycle error, {bits}", ""): cycle.stored_as(contract),
    }
    if holds_jpeg(contract):
        found[Column(f"cycle error, JPEG {QUALITY}", "")] = cycle.jpeg(QUALITY, "4:2:0")
    return found | {Column(f"cycle error, noise of {SIGMA:g}", ""): cycle.noise(SIGMA)}


FEW = 16
"""Images whose cycle is measured unless the user names this metric: each takes one pass more than it has columns."""


def cycle_measure(inputs: Inputs) -> Measure:
    """The cycle's error, as computed and after the translation was stored as an image or took faint noise."""
    there, back = inputs.there, inputs.back
    assert there is not None and back is not None
    chosen, in_jpeg = damages(there.target), holds_jpeg(there.target)
    kept, harmed = ("JPEG", "is stored as a JPEG") if in_jpeg else ("faint noise", "has faint noise")
    found: list[list[CycleError]] = []
    total = len(inputs.items)
    count = total if inputs.metrics else min(FEW, total)
    measured = {*np.linspace(0, total - 1, count).round().astype(int)}

    def value(sample: Sample) -> list[float] | None:
        if sample.number not in measured:
            return None
        errors = cycle.translator_cycle(sample.source, there, back, [*chosen.values()], sample.number)
        found.append(errors)
        return [each.error for each in errors]

    def complete(table: Table, values: list[Any]) -> None:  # noqa: ARG001
        (clean, _), _, (damaged, damage), *_ = np.mean(found, 0).tolist()
        if hides_source(clean, damaged, damage):
            table.add(
                f"The cycle's error rises from {clean:.3g} to {damaged:.3g} levels once the translation {harmed}, which"
                f" itself changes it by only {damage:.2g}: the networks hide the source in an invisible signal."
            )
        else:
            table.add(f"The cycle survives {kept}: no hidden signal found.")

    changes = "with 8 bits, JPEG and noise" if in_jpeg else f"stored as {there.target.dtype} and with noise"
    note = f"Cycle errors {changes}: the translation was changed like this before it was translated back."
    if not in_jpeg:
        note += " 255 levels are the whole range of the values."
    if len(measured) < total:
        note += f" They are of {len(measured)} of {total:,} images; `--metrics cycle` takes all."
    return Measure([*chosen], value, complete=complete, notes=[note])
