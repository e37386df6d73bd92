"""The measure of label maps: how often each pixel of a translation shows the class of its answer."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.inputs import Inputs
from twofold.evaluation.measures import Measure, Sample
from twofold.evaluation.table import Column, Row, Table, six_digits
from twofold.formats import images
from twofold.formats.contract import Labels, Pixels
from twofold.metrics import labels
from twofold.metrics.distribution import Estimate, bootstrap


def label_measure(inputs: Inputs) -> Measure:
    """Label maps as answers: the classes of the model, or those that the colours of the answers stand for."""
    known = inputs.target.contract.labels
    scale = known_classes(known) if known else classes_of_answers(inputs)
    columns = [Column(name, "higher") for name in ("pixel accuracy", "class accuracy", "class IoU")]

    def value(sample: Sample) -> labels.Counts:
        assert sample.answer is not None
        return labels.confusion(scale.find(sample.answer), scale.find(sample.output), len(scale.classes))

    def complete(table: Table, values: list[labels.Counts]) -> None:
        floor = label_estimates([*labels.commonest_label(np.stack(values))])
        table.rows.append(Row("one label", {x.name: y for x, y in zip(columns, floor, strict=True)}))
        scores = zip(scale.classes, *labels.per_class(np.sum(values, 0)), strict=True)
        table.details["classes"] = [
            each | {"accuracy": six_digits(accuracy), "iou": six_digits(iou)}
            for each, accuracy, iou in scores
        ]

    return Measure(columns, value, label_estimates, complete=complete, notes=[scale.note])


class Classes(NamedTuple):
    """The classes that label maps are compared by."""

    classes: list[dict[str, Any]]
    """Of each, its name, and its id or colour."""
    find: Callable[[Pixels], labels.Counts]
    """The class (H, W) of each pixel of (H, W, C); -1 for ids that are none."""
    note: str


def known_classes(known: Labels) -> Classes:
    """The classes of a model."""
    if known.ids is None:
        classes = [{"name": labels.hexadecimal(colour), "colour": [*colour]} for colour in known.values]
        how = "each pixel has the class of the nearest colour"
    else:
        classes = [{"name": str(number), "id": number} for number in known.ids]
        how = "pixels of the answers with other ids do not count"
    for each, name in zip(classes, known.names, strict=False):
        each["name"] = name
    note = f"The model has {len(classes)} classes: {how}; one label: the commonest everywhere."
    return Classes(classes, partial(labels.classes_of, known=known), note)


def classes_of_answers(inputs: Inputs) -> Classes:
    """The colours of the answers: each pixel has the class of the nearest."""
    paths = [item.answer for item in inputs.items if item.answer is not None]
    palette = labels.find_palette(
        labels.to_rgb(images.read(path, inputs.target.contract.channels)) for path in paths
    )
    classes = [{"name": labels.hexadecimal(colour), "colour": colour} for colour in palette.tolist()]
    note = f"Each pixel's label is the nearest of {len(palette)} colours of the answers; one label: the commonest everywhere."
    return Classes(classes, lambda image: labels.labels_of(labels.to_rgb(image), palette), note)


def label_estimates(matrices: list[labels.Counts]) -> list[Estimate]:
    """The three scores of the sum of images' confusion matrices (K, K), with intervals over images."""
    every = np.stack(matrices)

    def score(place: int, counts: NDArray[np.float64]) -> float:
        return labels.label_score(np.tensordot(counts.astype(np.int64), every, 1))[place]

    return [bootstrap(partial(score, place), len(matrices), "labels", place) for place in range(3)]
