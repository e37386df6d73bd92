"""Which measures an evaluation takes: all that can be taken, or those that were asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from twofold.errors import UsageError
from twofold.evaluation.features import Network, inception_home, inception_network, of_files, own_network
from twofold.evaluation.measures import (
    Cycles,
    Distribution,
    Labels,
    Means,
    Measure,
    Shot,
    against_answers,
    perceptual,
    survives,
    verdict,
)
from twofold.evaluation.settings import MetricName
from twofold.evaluation.subject import Notify, Request, Setup
from twofold.evaluation.table import Row
from twofold.formats import images
from twofold.metrics import labels, lpips
from twofold.metrics.distribution import Figure
from twofold.metrics.image import MS_SSIM_SIDE

METRICS: tuple[str, ...] = get_args(MetricName)

FEW, MANY = 8, 2000
"""Fewer images have no FID or KID; fewer than many a FID that is mostly bias."""

Plan = Callable[[str], Measure | None]
"""Makes a measure for a row, "translated" or "untouched"; None where it means nothing there."""


class Choice(NamedTuple):
    """The measures of an evaluation."""

    plans: list[Plan]
    notes: list[str]
    real: Callable[[], Row] | None
    """The row of real images of the other domain, for a classifier."""

    def measures(self, kind: str) -> list[Measure]:
        return [measure for plan in self.plans if (measure := plan(kind))]

    def more_rows(self, seen: Sequence[Measure]) -> list[Row]:
        """Floors and ceilings that are known without looking at images again."""
        rows = []
        for measure in seen:
            if isinstance(measure, Labels):
                floors = zip(measure.columns, measure.floor(), strict=True)
                rows.append(Row("one label", {column.name: figure for column, figure in floors}))
        return rows + ([self.real()] if self.real else [])

    def extra(self, seen: Sequence[Measure]) -> dict[str, Any]:
        """Figures of single classes, for the JSON."""
        found = {}
        for measure in seen:
            if isinstance(measure, Labels):
                each = labels.per_class(measure.matrices.sum(0))
                rows = zip(measure.names, measure.palette.tolist(), each, strict=True)
                found["classes"] = [
                    {"name": name, "colour": colour, "accuracy": figure(accuracy), "iou": figure(iou)}
                    for name, colour, (accuracy, iou) in rows
                ]
        return found


def figure(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


class Refusal(Exception):
    """Why something cannot be measured; an error if it was asked for, else a note or nothing."""


def choose(request: Request, setup: Setup, notify: Notify) -> Choice:
    """All that can be measured, or what was asked for.

    Raises:
        UsageError: what was asked for cannot be measured, and why.
    """
    unknown = [name for name in request.metrics if name not in METRICS]
    if unknown:
        raise UsageError(f"there is no metric {unknown[0]}; it is one of {', '.join(METRICS)}")
    plans: list[Plan] = []
    notes: list[str] = []
    for names, offer in OFFERS:
        asked = [name for name in names if name in request.metrics]
        if request.metrics and not asked:
            continue
        try:
            plans += offer(asked or list(names), request, setup, notes)
        except Refusal as reason:
            if asked:
                raise UsageError(f"{' and '.join(asked)} cannot be measured: {reason}") from reason
            if str(reason):
                notify(str(reason))
    if not plans:
        raise UsageError("nothing can be measured here; give answers, a run, or a --features network")
    return Choice(plans, notes, real_row(request, setup) if offered(request, "classifier") else None)


def offered(request: Request, name: str) -> bool:
    return bool(request.classifier) and (not request.metrics or name in request.metrics)


def answered(names: list[str], request: Request, setup: Setup, notes: list[str]) -> list[Plan]:
    """PSNR, SSIM, MS-SSIM."""
    if not setup.known:
        raise Refusal(UNKNOWN if request.metrics else "")
    if "ms-ssim" in names and (small := too_small(setup)):
        if "ms-ssim" in request.metrics:
            raise Refusal(small)
        notes.append(f"Left out: {small}.")
        names = [name for name in names if name != "ms-ssim"]
    return [everywhere(setup, lambda: against_answers(names))]


def too_small(setup: Setup) -> str:
    """Why there is no MS-SSIM, if an answer is too small for one."""
    for item in setup.items:
        assert item.answer is not None
        facts = images.inspect(item.answer)
        if min(facts.width, facts.height) < MS_SSIM_SIDE:
            return f"MS-SSIM needs {MS_SSIM_SIDE} pixels a side, {item.answer.name} has {facts.width}×{facts.height}"
    return ""


UNKNOWN = "no answers are known: the images of A and B have other names (--paired, if they are pairs)"


def everywhere(setup: Setup, make: Callable[[], Measure]) -> Plan:
    """A measure of the translations and, where that can be, of the untouched sources."""
    a, b = setup.channels
    comparable = a == b and len(setup.sources) == len(setup.items)
    return lambda kind: make() if kind == "translated" or comparable else None


def translated(make: Callable[[], Measure]) -> Plan:
    return lambda kind: make() if kind == "translated" else None


def learned(names: list[str], request: Request, setup: Setup, notes: list[str]) -> list[Plan]:  # noqa: ARG001
    """LPIPS."""
    if request.lpips is None:
        raise Refusal("give --lpips the weights of AlexNet or VGG-16" if request.metrics else "")
    if not setup.known:
        raise Refusal(UNKNOWN)
    network = lpips.load(request.lpips)
    return [everywhere(setup, lambda: perceptual(network, setup.device))]


def labelled(names: list[str], request: Request, setup: Setup, notes: list[str]) -> list[Plan]:  # noqa: ARG001
    """Label maps as answers."""
    if request.labels == "none" or not setup.known:
        raise Refusal("" if not request.metrics else UNKNOWN)
    if request.labels != "auto":
        palette, classes = labels.read_palette(Path(request.labels))
        return [translated(lambda: Labels(palette, classes))]
    answers = [item.answer for item in setup.items if item.answer is not None]
    asked = bool(request.metrics)
    if not asked and not flat(answers[0]):
        raise Refusal("")
    found = labels.palette_of(labels.colours(images.read(path, setup.channels[1])) for path in answers)
    notes.append(
        f"Labels are the nearest of {len(found)} colours of the answers; one label: the commonest everywhere."
    )
    return [translated(lambda: Labels(found))]


def flat(path: Path) -> bool:
    """Whether an image looks like a label map: few colours, or flat parts of few."""
    image = labels.colours(images.read(path, None))
    if image.max() == image.min():
        return False
    return len(np.unique(labels.packed(image))) <= labels.MOST and bool(labels.flat(image).mean() > 0.5)


def segmentation(names: list[str], request: Request, setup: Setup, notes: list[str]) -> list[Plan]:  # noqa: ARG001
    """The FCN score (Isola et al. 2017, §4.1): a network labels the translations, the sources are the truth."""
    if request.segmentation is None:
        raise Refusal("give --segmentation a network that labels images of B" if request.metrics else "")
    if request.labels in ("auto", "none"):
        raise Refusal("give --labels a file with the colours of the network's classes in their order")
    if len(setup.sources) < len(setup.items):
        raise Refusal("the label maps that were translated are not among A")
    network = own_network(request.segmentation, request.network_size, setup.device)
    palette, classes = labels.read_palette(Path(request.labels))
    return [translated(lambda: Labels(palette, classes, network))]


def distances(names: list[str], request: Request, setup: Setup, notes: list[str]) -> list[Plan]:
    """FID and KID, on Inception and on the user's network."""
    fewest = min(len(setup.items), len(setup.references))
    if fewest < FEW:
        raise Refusal(f"FID and KID need at least {FEW} images of each, there are {fewest}")
    plans = []
    if request.features is not None:
        shown = ["FID", "KID"] if {"fid", "clean-fid"} & set(names) and "kid" in names else ["KID"]
        shown = ["FID"] if "kid" not in names else shown
        plans.append(
            distribution(own_network(request.features, request.network_size, setup.device), shown, setup)
        )
    weights = request.inception or inception_home()
    if weights.is_file() or request.inception or (request.metrics and request.features is None):
        if {"fid", "kid"} & set(names):
            shown = [name.upper() for name in ("fid", "kid") if name in names]
            plans.append(distribution(inception_network(weights, False, setup.device), shown, setup))
        if "clean-fid" in names:
            plans.append(distribution(inception_network(weights, True, setup.device), ["clean-FID"], setup))
    if not plans:
        raise Refusal(
            "FID and KID are left out without Inception's weights (--inception FILE, or `twofold evaluate"
            " --download-weights`) or a --features network"
        )
    if fewest < MANY:
        notes.append(
            f"FIDs of {fewest:,} images are biased upwards: compare them with FIDs of as many alone (KID has no bias)."
        )
    return plans


def distribution(network: Network, names: list[str], setup: Setup) -> Plan:
    into, out = setup.channels
    reference = of_files(network, setup.references, out, setup.device)
    comparable = into == out and len(setup.sources) == len(setup.items)

    def make(kind: str) -> Measure | None:
        if kind == "translated":
            return Distribution(network, setup.device, reference, names)
        if not comparable:
            return None
        known = of_files(network, setup.sources, out, setup.device)
        return Distribution(network, setup.device, reference, names, known)

    return make


def structure(names: list[str], request: Request, setup: Setup, notes: list[str]) -> list[Plan]:  # noqa: ARG001
    if len(setup.sources) < len(setup.items):
        raise Refusal("the translations have other names than the images of A" if request.metrics else "")
    return [translated(survives)]


def cycles(names: list[str], request: Request, setup: Setup, notes: list[str]) -> list[Plan]:  # noqa: ARG001
    there, back = setup.there, setup.back
    if there is None or back is None:
        raise Refusal("a cycle needs a run with both directions" if request.metrics else "")
    if there.header.lab:
        raise Refusal("lightness and colour are not each other's translations" if request.metrics else "")
    notes.append(
        "Cycle errors with 8 bits, JPEG and noise: the translation was stored so before it was translated back."
    )
    return [translated(lambda: Cycles(there, back))]


def classified(names: list[str], request: Request, setup: Setup, notes: list[str]) -> list[Plan]:  # noqa: ARG001
    if request.classifier is None:
        raise Refusal(
            "give --classifier a network, and --class the number of a class" if request.metrics else ""
        )
    return [everywhere(setup, lambda: classifier(request, setup))]


def classifier(request: Request, setup: Setup) -> Means:
    if not request.classes or min(request.classes) < 0:
        raise UsageError("--classifier needs --class: the number that it gives the other domain, from 0")
    assert request.classifier is not None
    network = own_network(request.classifier, request.network_size, setup.device)
    return verdict(network, request.classes, setup.device)


def real_row(request: Request, setup: Setup) -> Callable[[], Row]:
    def row() -> Row:
        measure = classifier(request, setup)
        for number, path in enumerate(setup.references):
            image = images.read(path, setup.channels[1])
            measure.see(Shot(number, image, image, None))
        found: dict[str, Figure] = {}
        for column, one in zip(measure.columns, measure.figures(), strict=True):
            found[column.name] = one
        return Row("real", found)

    return row


OFFERS: list[tuple[tuple[str, ...], Callable[[list[str], Request, Setup, list[str]], list[Plan]]]] = [
    (("psnr", "ssim", "ms-ssim"), answered),
    (("lpips",), learned),
    (("labels",), labelled),
    (("segmentation",), segmentation),
    (("fid", "clean-fid", "kid"), distances),
    (("classifier",), classified),
    (("structure",), structure),
    (("cycle",), cycles),
]
"""Names, and what makes their measures; in the order of the table."""
