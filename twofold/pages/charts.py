"""Line charts of one run or of several runs over the images seen; static/script.js draws them."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from twofold.pages.run_folder import Rows, RunFolder
from twofold.read_untrusted import as_dict, number

COLOURS = ("a", "b", "c", "d", "e", "f", "g", "h")
"""Classes of style.css; the first two are the colours of the domains."""

LOSSES = {  # by the first word of a loss's name: the chart's title and meaning
    "gan": (
        "Adversarial",
        "How far a generator is from passing its images off as real to its discriminator.",
    ),
    "cycle": ("Cycle", "How far an image is from the original after it is translated and translated back."),
    "idt": ("Identity", "How much a generator changes an image that is already in its target domain."),
    "disc": (
        "Discriminator",
        "How far a discriminator is from telling real from translated images apart. Near zero, it has won.",
    ),
    "nce": (
        "Patch contrast",
        "How hard it is to find, for a patch of the translation, the patch of the source at the same place.",
    ),
    "l1": ("Pixel difference", "Mean absolute difference between a translation and its right answer."),
    "l2": ("Pixel difference", "Mean squared difference between a translation and its right answer."),
    "perceptual": (
        "Perceptual",
        "Difference between a pretrained network's features of two images that should look alike.",
    ),
    "rec": (
        "Discriminator of reconstructions",
        "How far these discriminators are from telling real from reconstructed images apart.",
    ),
    "": ("Other losses", "Other terms that this method minimises."),
}
MOST_CURVES, MOST_CHARTS = 4, 12
"""Curves in a chart of one run; charts of one kind of loss where runs are compared, and of held-out metrics."""


class Series(NamedTuple):
    """One curve: values (None is a gap) at images seen, in rising order; the colour is one of COLOURS."""

    label: str
    colour: str
    images: list[float]
    values: list[float | None]

    @property
    def last(self) -> str:
        """The newest value as text, for readers without JavaScript."""
        return next((f"{value:.3g}" for value in reversed(self.values) if value is not None), "–")


class Chart(NamedTuple):
    """A figure with one curve or more; its scale begins at zero if `zero`."""

    title: str
    meaning: str
    unit: str
    zero: bool
    series: list[Series]

    @property
    def data(self) -> dict[str, Any]:
        """What script.js draws; curves of the same log share one list of images."""
        axes = list(dict.fromkeys(tuple(each.images) for each in self.series))
        curves = [
            {
                "label": each.label,
                "colour": each.colour,
                "axis": axes.index(tuple(each.images)),
                "values": [None if value is None else float(f"{value:.5g}") for value in each.values],
            }
            for each in self.series
        ]
        return {"title": self.title, "unit": self.unit, "zero": self.zero, "axes": axes, "curves": curves}


class Group(NamedTuple):
    """Curves that one run shows in one chart, and several runs in a chart each."""

    title: str
    meaning: str
    unit: str
    log: Literal["metrics", "timing", "evaluations"]
    curves: list[tuple[str, str, tuple[str, ...]]]
    """Of each: its label, its colour if there is only one run, and the keys of its value in a row of the log."""
    zero: bool = True


MACHINE = [
    Group(
        "Learning rate", "The step size of the generators' optimizer.", "", "metrics", [("", "d", ("lr",))]
    ),
    Group(
        "Throughput",
        "Pairs of images trained on in a second.",
        "images/s",
        "timing",
        [("", "d", ("images_per_s",))],
    ),
]


def charts(runs: Sequence[tuple[str, RunFolder]]) -> list[Chart]:
    """The charts of one run, or of several named runs, as many as there are COLOURS.

    One run has a chart for each kind of loss, with the losses of a domain in its colour. Several runs have a chart
    for each loss, with each run in a colour of its own.
    """
    folders = [folder for _, folder in runs]
    groups = [*_held_out(folders), *_losses(folders), *MACHINE]
    if len(runs) == 1:
        found = [
            _chart(
                group,
                group.title,
                [
                    (label or group.title, colour, folders[0], keys)
                    for label, colour, keys in group.curves[:MOST_CURVES]
                ],
            )
            for group in groups
        ]
    else:
        found = [
            _chart(
                group,
                f"{group.title} {label}".rstrip(),
                [(name, colour, folder, keys) for (name, folder), colour in zip(runs, COLOURS, strict=False)],
            )
            for group in groups
            for label, _, keys in group.curves[:MOST_CHARTS]
        ]
    return [chart for chart in found if chart.series]


def losses_by_kind(metrics: Rows) -> dict[str, list[str]]:
    """The names of all losses by the key of LOSSES that describes them; kinds without losses are left out."""
    kinds: dict[str, list[str]] = {kind: [] for kind in LOSSES}
    for name in _names(metrics, "losses"):
        kinds.get(name.partition("_")[0], kinds[""]).append(name)
    return {kind: names for kind, names in kinds.items() if names}


def evenly(count: int, most: int) -> list[int]:
    """At most `most` (2 or more) of the places 0..count-1, evenly spaced, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _held_out(folders: list[RunFolder]) -> list[Group]:
    names = _names([row for folder in folders for row in folder.evaluations], "values")[:MOST_CHARTS]
    meaning = "Measured on held-out images."
    return [
        Group(name, meaning, "", "evaluations", [("", "c", ("values", name))], zero=False) for name in names
    ]


def _losses(folders: list[RunFolder]) -> list[Group]:
    kinds = losses_by_kind([row for folder in folders for row in folder.metrics])
    return [
        Group(*LOSSES[kind], "loss", "metrics", _loss_curves(kind, names)) for kind, names in kinds.items()
    ]


def _loss_curves(kind: str, names: list[str]) -> list[tuple[str, str, tuple[str, ...]]]:
    free, curves = list(COLOURS[:MOST_CURVES]), []
    for name in names[:MOST_CHARTS]:
        end = name.rpartition("_")[2]  # gan_ab makes images of B and disc_b judges them: both have B's colour
        label = {"a": "A", "b": "B", "ab": "A→B", "ba": "B→A"}.get(end, name) if kind else name
        colour = free.pop(free.index(name[-1]) if name[-1:] in free else -1) if free else "h"
        curves.append((label, colour, ("losses", name)))
    return curves


def _names(rows: Rows, key: str) -> list[str]:
    return list(dict.fromkeys(str(name) for row in rows for name in as_dict(row.get(key))))


def _chart(group: Group, title: str, curves: list[tuple[str, str, RunFolder, tuple[str, ...]]]) -> Chart:
    series = []
    for label, colour, folder, keys in curves:
        rows: Rows = getattr(folder, group.log)
        values = [_number(row, keys) for row in rows]
        if any(value is not None for value in values):
            series.append(Series(label, colour, [row["images"] for row in rows], values))
    return Chart(title, group.meaning, group.unit, group.zero, series)


def _number(row: Any, keys: tuple[str, ...]) -> float | None:
    for key in keys:
        row = as_dict(row).get(key)
    return number(row)
