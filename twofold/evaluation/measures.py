"""The measures: each is given one image after the other, then estimates its columns for one row of the table."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from twofold.evaluation.cycle import CycleError, eight_bits, jpeg, no_damage, noise, translator_cycle
from twofold.evaluation.features import BATCH, Network, features, features_of_files, planes
from twofold.evaluation.inputs import Inputs
from twofold.evaluation.table import Column, Row, Table
from twofold.formats import images
from twofold.metrics import labels, lpips
from twofold.metrics.distribution import Estimate, bootstrap, fid, kid, mean_estimate
from twofold.metrics.image import Uint8, ms_ssim, psnr, ssim
from twofold.metrics.structure import hides_source, structure_kept


class Sample(NamedTuple):
    """One test image, each array (H, W, C)."""

    number: int
    source: Uint8
    output: Uint8
    answer: Uint8 | None


class Measure:
    """The base of all measures."""

    columns: Sequence[Column]
    notes: Sequence[str] = ()

    def add(self, sample: Sample) -> None:
        raise NotImplementedError

    def estimates(self) -> list[Estimate]:
        """One for each column, over the images added."""
        raise NotImplementedError

    def for_sources(self) -> "Measure | None":
        """The same measure for the untouched sources, empty; None if it says nothing about them."""
        return None

    def complete(self, table: Table) -> None:
        """Add further rows, details or sentences to the finished table."""


class MeanMeasure(Measure):
    """Means over images of the values that a function finds in one image.

    Args:
        of_sources: whether the untouched sources are measured as well.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        function: Callable[[Sample], Sequence[float]],
        *,
        of_sources: bool = False,
    ) -> None:
        self.columns, self.function, self.of_sources = columns, function, of_sources
        self.rows: list[Sequence[float]] = []

    def add(self, sample: Sample) -> None:
        self.rows.append(self.function(sample))

    def estimates(self) -> list[Estimate]:
        values = zip(*self.rows, strict=True)
        return [mean_estimate(value, column.name) for value, column in zip(values, self.columns, strict=True)]

    def for_sources(self) -> Measure | None:
        return MeanMeasure(self.columns, self.function) if self.of_sources else None


ANSWER_METRICS = {
    "psnr": (Column("PSNR (dB)", "higher"), psnr),
    "ssim": (Column("SSIM", "higher"), ssim),
    "ms-ssim": (Column("MS-SSIM", "higher"), ms_ssim),
}


def answer_measure(name: str) -> MeanMeasure:
    """PSNR, SSIM or MS-SSIM against the answers."""
    column, metric = ANSWER_METRICS[name]

    def value(sample: Sample) -> list[float]:
        assert sample.answer is not None
        return [metric(sample.output, sample.answer)]

    return MeanMeasure([column], value, of_sources=True)


def lpips_measure(inputs: Inputs) -> MeanMeasure:
    assert inputs.lpips is not None
    device = inputs.device
    network = lpips.load(inputs.lpips).to(device)

    @torch.inference_mode()
    def value(sample: Sample) -> list[float]:
        assert sample.answer is not None
        x, y = (images.to_float(planes(image).to(device)) for image in (sample.output, sample.answer))
        return [float(network(x, y))]

    return MeanMeasure([Column("LPIPS", "lower")], value, of_sources=True)


def structure_measure() -> MeanMeasure:
    columns = [Column("luminance kept", ""), Column("edges kept", "")]
    return MeanMeasure(columns, lambda sample: structure_kept(sample.source, sample.output))


QUALITY, SIGMA = 75, 2.0
"""Of the JPEG, and of the noise in levels of 255, that a translation should survive."""


class CycleMeasure(Measure):
    """The cycle's error, as computed and after the translation was stored as an image or took faint noise."""

    columns = (
        Column("cycle error (of 255)", "lower"),
        Column("cycle error, 8 bits", ""),
        Column(f"cycle error, JPEG {QUALITY}", ""),
        Column(f"cycle error, noise of {SIGMA:g}", ""),
    )
    damages = (no_damage, eight_bits, jpeg(QUALITY, "4:2:0"), noise(SIGMA))
    notes = (
        "Cycle errors with 8 bits, JPEG and noise: the translation was stored or changed like this before it was"
        " translated back.",
    )

    def __init__(self, inputs: Inputs) -> None:
        assert inputs.there is not None and inputs.back is not None
        self.there, self.back = inputs.there, inputs.back
        self.rows: list[list[CycleError]] = []

    def add(self, sample: Sample) -> None:
        self.rows.append(translator_cycle(sample.source, self.there, self.back, self.damages, sample.number))

    def estimates(self) -> list[Estimate]:
        columns = zip(self.columns, zip(*self.rows, strict=True), strict=True)
        return [mean_estimate([each.error for each in found], column.name) for column, found in columns]

    def complete(self, table: Table) -> None:
        clean, _, stored = (estimate.value for estimate in self.estimates()[:3])
        damage = float(np.mean([row[2].damage for row in self.rows]))
        if hides_source(clean, stored, damage):
            sentence = (
                f"The cycle's error rises from {clean:.3g} to {stored:.3g} levels once the translation is stored as a"
                " JPEG: the networks hide the source in an invisible signal."
            )
        else:
            sentence = "The cycle survives JPEG: the translation shows what it is rebuilt from."
        table.summary = f"{table.summary} {sentence}".strip()


class LabelMeasure(Measure):
    """Label maps as answers: each pixel has the class of the nearest colour."""

    columns = tuple(Column(name, "higher") for name in ("pixel accuracy", "class accuracy", "class IoU"))

    def __init__(self, inputs: Inputs) -> None:
        paths = [item.answer for item in inputs.items if item.answer is not None]
        truths = (labels.to_rgb(images.read(path, inputs.channels[1])) for path in paths)
        self.palette = labels.find_palette(truths)
        self.confusions: list[labels.Counts] = []
        self.notes = [
            f"Each pixel's label is the nearest of {len(self.palette)} colours of the answers; one label: the commonest"
            " everywhere."
        ]

    def add(self, sample: Sample) -> None:
        assert sample.answer is not None
        truth, found = (
            labels.labels_of(labels.to_rgb(image), self.palette) for image in (sample.answer, sample.output)
        )
        self.confusions.append(labels.confusion(truth, found, len(self.palette)))

    def estimates(self) -> list[Estimate]:
        return label_estimates(np.stack(self.confusions))

    def complete(self, table: Table) -> None:
        matrices = np.stack(self.confusions)
        floor = label_estimates(labels.commonest_label(matrices))
        names = [column.name for column in self.columns]
        table.rows.append(Row("one label", dict(zip(names, floor, strict=True))))
        table.details["classes"] = [
            {
                "name": "#{:02x}{:02x}{:02x}".format(*colour),
                "colour": colour,
                "accuracy": four_digits(accuracy),
                "iou": four_digits(iou),
            }
            for colour, accuracy, iou in zip(
                self.palette.tolist(), *labels.per_class(matrices.sum(0)), strict=True
            )
        ]


def label_estimates(matrices: labels.Counts) -> list[Estimate]:
    """The three scores of the sum of images' confusion matrices (N, K, K), with intervals over images."""
    count, side, _ = matrices.shape
    flat = matrices.reshape(count, -1)

    def score(place: int) -> Callable[[NDArray[np.float64]], float]:
        return lambda counts: labels.label_score((counts.astype(np.int64) @ flat).reshape(side, side))[place]

    return [bootstrap(score(place), count, "labels", place) for place in range(3)]


def four_digits(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


LABELS = {"fid": "FID", "kid": "KID", "clean-fid": "clean-FID"}


class FeatureMeasure(Measure):
    """FID and KID: how far a network's features of the translations are from those of the target domain.

    Args:
        names: of "fid", "clean-fid", "kid".
        known: the features of the images to be measured, if they are known without adding any.
    """

    def __init__(
        self, network: Network, names: Sequence[str], inputs: Inputs, known: NDArray[np.float32] | None = None
    ) -> None:
        self.network, self.names, self.inputs, self.known = network, names, inputs, known
        self.columns = [Column(f"{LABELS[name]} ({network.name})", "lower") for name in names]
        self.waiting: list[Uint8] = []
        self.rows: list[NDArray[np.float32]] = []

    def add(self, sample: Sample) -> None:
        if self.known is None:
            self.waiting.append(sample.output)
            if len(self.waiting) == BATCH:
                self.compute()

    def compute(self) -> None:
        if self.waiting:
            self.rows.append(features(self.network, self.waiting, self.inputs.device))
            self.waiting = []

    def estimates(self) -> list[Estimate]:
        self.compute()
        made = np.concatenate(self.rows) if self.known is None else self.known
        real = self.of_files(self.inputs.references)
        x, y = made.astype(np.float64), real.astype(np.float64)
        return [kid(x, y) if name == "kid" else fid(x, y, self.network.name) for name in self.names]

    def for_sources(self) -> Measure | None:
        known = self.of_files(self.inputs.sources)
        return FeatureMeasure(self.network, self.names, self.inputs, known)

    def of_files(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        return features_of_files(self.network, paths, self.inputs.channels[1], self.inputs.device)
