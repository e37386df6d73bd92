"""The measure of label maps: how often each pixel of a translation shows the class of its answer."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.data.labels import find_classes, look_at
from twofold.errors import UsageError
from twofold.evaluation.inputs import Inputs
from twofold.evaluation.measures import Measure, Sample
from twofold.evaluation.table import Column, Row, Table, six_digits
from twofold.formats import images
from twofold.formats.contract import Labels, Pixels
from twofold.metrics import labels
from twofold.metrics.distribution import Estimate, bootstrap


def label_measure(inputs: Inputs) -> Measure:
    """Label maps as answers: the classes of the model, or those that the colours of the answers stand for."""
    known = inputs.target.contract.labels or colours_of_answers(inputs)
    classes = described(known)
    columns = [Column(name, "higher") for name in ("pixel accuracy", "class accuracy", "class IoU")]

    def class_map(image: Pixels) -> labels.Counts:
        return labels.classes_of(image if known.ids else labels.to_rgb(image), known)

    def value(sample: Sample) -> labels.Counts:
        assert sample.answer is not None
        return labels.confusion(class_map(sample.answer), class_map(sample.output), len(classes))

    def complete(table: Table, values: list[labels.Counts]) -> None:
        floor = label_estimates([*labels.commonest_label(np.stack(values))])
        table.rows.append(Row("one label", {x.name: y for x, y in zip(columns, floor, strict=True)}))
        scores = zip(classes, *labels.per_class(np.sum(values, 0)), strict=True)
        table.details["classes"] = [
            each | {"accuracy": six_digits(accuracy), "iou": six_digits(iou)}
            for each, accuracy, iou in scores
        ]

    owner = "The model has" if inputs.target.contract.labels else "The answers have"
    nearest = "each pixel has the class of the nearest colour"
    how = "pixels of the answers with other ids do not count" if known.ids else nearest
    note = f"{owner} {len(classes)} classes: {how}; one label: the commonest everywhere."
    return Measure(columns, value, label_estimates, complete=complete, notes=[note])


def colours_of_answers(inputs: Inputs) -> Labels:
    """The colours of the answers as classes, found as `--labels-b` finds them.

    Raises:
        UsageError: no colours stand out, as in photographs.
    """
    channels = inputs.target.contract.channels
    seen = {
        str(path): look_at(labels.to_rgb(images.read(path, channels)), path.name) for path in inputs.answers
    }
    try:
        return Labels(find_classes("B", seen))
    except UsageError as error:
        raise UsageError(
            "the answers are not label maps: they do not have 2 colours or more that fill flat parts; leave `labels`"
            " out of --metrics, or store label maps as PNG"
        ) from error


def described(known: Labels) -> list[dict[str, Any]]:
    """Of each class, its name, and its id or colour."""
    if known.ids:
        classes: list[dict[str, Any]] = [{"name": str(number), "id": number} for number in known.ids]
    else:
        classes = [{"name": labels.hexadecimal(colour), "colour": [*colour]} for colour in known.values]
    for each, name in zip(classes, known.names, strict=False):
        each["name"] = name
    return classes


def label_estimates(matrices: list[labels.Counts]) -> list[Estimate]:
    """The three scores of the sum of images' confusion matrices (K, K), with intervals over images."""
    every = np.stack(matrices)

    def score(place: int, counts: NDArray[np.float64]) -> float:
        return labels.label_score(np.tensordot(counts.astype(np.int64), every, 1))[place]

    return [bootstrap(partial(score, place), len(matrices), "labels", place) for place in range(3)]
