"""Which metrics are measured: those the user names, or all that apply. `METRICS` says what each of them needs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from twofold.data.labels import look_like_labels
from twofold.errors import UsageError
from twofold.evaluation import measures
from twofold.evaluation.cycle import holds_jpeg
from twofold.evaluation.features import inception_home, inception_network, own_network
from twofold.evaluation.inputs import Inputs
from twofold.evaluation.label_scores import label_measure
from twofold.evaluation.measures import Measure
from twofold.formats import images
from twofold.formats.contract import Contract
from twofold.metrics.alignment import SMALLEST
from twofold.metrics.image import MS_SSIM_SIDE, SSIM_SIDE
from twofold.metrics.structure import STRUCTURE_SIDE

FEWEST, MANY = 8, 2000
"""FID and KID need at least `FEWEST` images of each domain; with fewer than `MANY` a FID is mostly bias."""

LOOKED_AT = 8
"""Answers that are looked at to tell whether they are label maps."""

Need = Callable[[Inputs], str]
"""What a metric lacks here, or an empty string."""


class Metric(NamedTuple):
    """Metrics that are measured together.

    Attributes:
        needs: where this fails, the metric is left out silently, unless the user named it.
        limit: where this fails, the table notes that it was left out.
    """

    names: tuple[str, ...]
    make: Callable[[Inputs], Measure | list[Measure]]
    needs: Need = lambda _: ""
    limit: Need = lambda _: ""


def choose(inputs: Inputs) -> tuple[list[Measure], list[str]]:
    """The measures, and notes for the table.

    Raises:
        UsageError: a metric that the user named does not exist or does not apply here; says what it needs.
    """
    known = [name for metric in METRICS for name in metric.names]
    for name in inputs.metrics:
        if name not in known:
            raise UsageError(f"there is no metric {name!r}; the metrics are {', '.join(known)}")
    chosen: list[Measure] = []
    notes: list[str] = []
    for metric in METRICS:
        wanted = wanted_of(metric.names, inputs)
        if not wanted:
            continue
        missing = metric.needs(inputs)
        reason = missing or metric.limit(inputs)
        if reason and inputs.metrics:
            raise UsageError(f"{' and '.join(wanted)} cannot be measured: {reason}")
        if not reason:
            found = metric.make(inputs)
            chosen += found if isinstance(found, list) else [found]
        elif not missing and f"Left out: {reason}." not in notes:
            notes.append(f"Left out: {reason}.")
    if not chosen:
        raise UsageError(
            "no metric applies; give a run, images of A and B with equal names (--paired), or a --features network"
        )
    return chosen, notes + [note for measure in chosen for note in measure.notes]


def wanted_of(names: Sequence[str], inputs: Inputs) -> list[str]:
    return [name for name in names if not inputs.metrics or name in inputs.metrics]


# ---- what metrics need


def answers(inputs: Inputs) -> str:
    unknown = "no answers are known (--paired, if images of equal names in A and B are pairs)"
    return "" if inputs.answered else unknown


def values(inputs: Inputs) -> str:
    """Answers whose values are levels, not the numbers of classes."""
    labels = inputs.target.contract.labels
    if labels and labels.ids:
        return "the values of label maps are classes, which have no distance (--metrics labels counts right pixels)"
    return answers(inputs)


def own_units(inputs: Inputs) -> str:
    """By default only if the values are not levels of 255, which have no unit."""
    in_levels = holds_jpeg(inputs.target.contract) and not inputs.metrics
    return "the values are levels of 255" if in_levels else values(inputs)


def pictures(inputs: Inputs) -> str:
    """Networks that were trained on photographs take one or three channels."""
    channels, side = inputs.target.contract.channels, inputs.direction[1]
    if channels in (1, 3) or inputs.target.channels or inputs.target.contract.labels:
        return ""
    return (
        f"FID, KID and LPIPS need images of 1 or 3 channels, and {side.upper()} has {channels}; choose three with"
        f" `twofold train --resume RUN --data.show-{side} 0 1 2`"
    )


def picture_answers(inputs: Inputs) -> str:
    return answers(inputs) or pictures(inputs)


def sizes_of_answers(name: str, side: int) -> Need:
    return lambda inputs: pixels(name, side, inputs.answers, inputs)


def sources(inputs: Inputs) -> str:
    missing = "the ready translations and the images of A have different names"
    return "" if len(inputs.sources) == len(inputs.items) else missing


def sizes_of_sources(inputs: Inputs) -> str:
    """Ready translations must have the sizes of their sources; a model's always have."""
    for source, output, _ in inputs.items:
        if source is not None and output is not None:
            (width, height), (wide, high) = map(inputs.size, (output, source))
            if (width, height) != (wide, high):
                return (
                    f"structure and alignment need translations of their sources' size, {output.name} has"
                    f" {width}×{height} and its source {wide}×{high}"
                )
    return ""


def sizes_for(name: str, side: int) -> Need:
    return lambda inputs: sizes_of_sources(inputs) or pixels(name, side, inputs.sources, inputs)


def pixels(name: str, side: int, paths: Sequence[Path], inputs: Inputs) -> str:
    """Images of at least so many pixels a side."""
    for path in paths:
        width, height = inputs.size(path)
        if min(width, height) < side:
            return f"{name} needs {side} pixels a side, {path.name} has {width}×{height}"
    return ""


def unknown_answers(inputs: Inputs) -> str:
    """By default only where nothing better can be measured."""
    return "the answers are known" if inputs.answered and not inputs.metrics else ""


def lpips_weights(inputs: Inputs) -> str:
    return "" if inputs.lpips else "give --lpips the published weights of AlexNet or VGG-16"


def label_maps(inputs: Inputs) -> str:
    """Answers; by default only for a model of label maps, or if some answers look like label maps."""
    contract = inputs.target.contract
    if contract.labels is None and (contract.dtype != "uint8" or contract.channels not in (1, 3, 4)):
        return "the answers are not label maps: they are not pictures of 8 bits"
    if not inputs.answered or inputs.metrics or contract.labels:
        return answers(inputs)
    some = (images.read(path) for path in inputs.answers[:LOOKED_AT])
    return "" if look_like_labels(some) else "the answers are not label maps"


def both_directions(inputs: Inputs) -> str:
    if inputs.there is None or inputs.back is None:
        return "a cycle needs a run with both directions"
    return "lightness and colour are not translations of each other" if inputs.there.header.lab else ""


def images_and_weights(inputs: Inputs) -> str:
    fewest = min(len(inputs.items), len(inputs.references))
    if fewest < FEWEST:
        return f"FID and KID need at least {FEWEST} images of each, there are {fewest}"
    if inputs.metrics or inputs.features or inputs.inception or inception_home().is_file():
        return pictures(inputs)
    return (
        "FID and KID need Inception's weights (--inception FILE, or `twofold evaluate --download-weights`) or a"
        " --features network"
    )


def of_target(measure: Callable[[Contract], Measure]) -> Callable[[Inputs], Measure]:
    """A measure that depends on the target's contract alone."""
    return lambda inputs: measure(inputs.target.contract)


def feature_measures(inputs: Inputs) -> list[Measure]:
    """FID and KID by the user's network, and by Inception where its weights are at hand or nothing else is."""
    found: list[Measure] = []
    own, clean = wanted_of(("fid", "kid"), inputs), wanted_of(("clean-fid",), inputs)
    if inputs.features is not None and own:
        network = own_network(inputs.features, inputs.device)
        found.append(measures.feature_measure(network, own, inputs))
    weights = inputs.inception or inception_home()
    if inputs.inception or weights.is_file() or not found or "clean-fid" in inputs.metrics:
        for names in filter(None, (own, clean)):
            network = inception_network(weights, names is clean, inputs.device)
            found.append(measures.feature_measure(network, names, inputs))
    fewest = min(len(inputs.items), len(inputs.references))
    if fewest < MANY:
        found[0].notes = [
            f"FIDs of {fewest:,} images are biased upwards: compare them only with FIDs of as many images (KID has no"
            " bias)."
        ]
    return found


METRICS = [
    Metric(("psnr",), of_target(measures.PSNR), values),
    Metric(("ssim",), of_target(measures.SSIM), values, sizes_of_answers("SSIM", SSIM_SIDE)),
    Metric(("ms-ssim",), of_target(measures.MS_SSIM), values, sizes_of_answers("MS-SSIM", MS_SSIM_SIDE)),
    Metric(("mae",), of_target(measures.mae_measure), own_units),
    Metric(("lpips",), measures.lpips_measure, lpips_weights, picture_answers),
    Metric(("labels",), label_measure, label_maps),
    Metric(("fid", "clean-fid", "kid"), feature_measures, limit=images_and_weights),
    Metric(("swd",), measures.patch_measure, unknown_answers),
    Metric(("structure",), measures.structure_measure, sources, sizes_for("structure", STRUCTURE_SIDE)),
    Metric(("alignment",), measures.alignment_measure, sources, sizes_for("alignment", SMALLEST)),
    Metric(("cycle",), measures.cycle_measure, both_directions),
]
"""Every metric, in the order of the table's columns."""
