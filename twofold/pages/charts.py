"""Line charts of one run or of several runs over the images seen or the time; static/charts.js draws them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from twofold.pages.run_folder import Rows, RunFolder
from twofold.read_untrusted import as_dict, number
from twofold.runs import DIRECTIONS

COLOURS = ("a", "b", "c", "d", "e", "f", "g", "h")
"""Classes of style.css; the first two are the colours of the domains."""

LOSSES = {  # by the first word of a loss's name: the chart's title and meaning
    "gan": ("Adversarial", "How far a generator is from fooling its discriminator."),
    "cycle": ("Cycle", "How far an image is from the original after it is translated and translated back."),
    "idt": ("Identity", "How much a generator changes an image that is already in its target domain."),
    "disc": ("Discriminator", "Its errors at telling real from translated images. Near zero, it has won."),
    "nce": ("Patch contrast", "How hard it is to find the source patch of a patch of the translation."),
    "l1": ("Pixel difference", "Mean absolute difference between a translation and its right answer."),
    "l2": ("Pixel difference", "Mean squared difference between a translation and its right answer."),
    "perceptual": ("Perceptual", "Difference between a pretrained network's features of two images."),
    "rec": ("Discriminator of reconstructions", "Its errors at telling real from reconstructed images."),
    "": ("Other losses", "Other terms that this method minimises."),
}
HELD_OUT = {
    "psnr": "Peak signal-to-noise ratio on held-out images whose answers are known, in dB. Higher is better.",
    "swd": "Sliced Wasserstein distance of patches of translations and of held-out images. Lower is better.",
    "structure": "Correlation of the edges of source and translation, on held-out images; 1 is equal.",
}
"""The meaning of held-out metrics that need more words than that they are held out."""
RATE = "Learning rate", "The step size of the generators' optimizer.", ""
SPEED = "Throughput", "Pairs of images trained on in a second.", "images/s"

MOST_CURVES, MOST_CHARTS = 4, 12
"""Curves in a chart of one run; charts of held-out metrics, and of one kind of value where runs are compared."""


class Curve(NamedTuple):
    """Values (None is a gap) at images seen, in rising order.

    The colour is one of COLOURS; an empty label stands for the chart's title.
    """

    label: str
    colour: str
    images: list[float]
    values: list[float | None]


class Chart(NamedTuple):
    """A figure whose scale begins at zero if `zero`. Curves of one log share one of the axes."""

    title: str
    meaning: str
    unit: str
    zero: bool
    axes: list[list[float]]
    curves: list[dict[str, Any]]
    """Of each: label, colour, the place of its axis, and values."""


class Series(NamedTuple):
    """A value in the logs of runs: its name, the colour that it has if that is free, and the rows and keys of it."""

    label: str
    colour: str
    rows: Callable[[RunFolder], Rows]
    keys: tuple[str, ...]

    def curve(self, run: RunFolder, label: str, colour: str) -> Curve:
        rows = self.rows(run)
        found: list[Any] = rows
        for key in self.keys:
            found = [as_dict(value).get(key) for value in found]
        return Curve(label, colour, [row["images"] for row in rows], [*map(number, found)])


class Kind(NamedTuple):
    """Series that share a chart if there is one run; where runs are compared, each has a chart of its own."""

    title: str
    meaning: str
    unit: str
    series: list[Series]
    zero: bool = True


def run_charts(run: RunFolder) -> list[Chart]:
    """The charts of one run: one for each kind of value, in which the values of a domain have its colour."""
    charts = []
    for kind in _kinds([run]):
        free = list(COLOURS[:MOST_CURVES])
        curves = []
        for series in kind.series[:MOST_CURVES]:
            colour = free.pop(free.index(series.colour) if series.colour in free else -1)
            curves.append(series.curve(run, series.label, colour))
        charts.append(chart(kind.title, kind.meaning, kind.unit, curves, kind.zero))
    return [each for each in charts if each.curves]


def comparison_charts(runs: Sequence[tuple[str, RunFolder]]) -> list[Chart]:
    """The charts of several named runs, as many as there are COLOURS: one for each value, each run in a colour."""
    charts = []
    for kind in _kinds([run for _, run in runs]):
        for series in kind.series[:MOST_CHARTS]:
            title = f"{kind.title} {series.label}".strip()
            curves = [
                series.curve(run, label, colour) for (label, run), colour in zip(runs, COLOURS, strict=False)
            ]
            charts.append(chart(title, kind.meaning, kind.unit, curves, kind.zero))
    return [each for each in charts if each.curves]


def _kinds(runs: Sequence[RunFolder]) -> Iterator[Kind]:
    """Held-out metrics, losses, learning rate and throughput of these runs."""
    yield from _held_out([row for run in runs for row in run.evaluations])
    metrics = attrgetter("metrics")
    for kind, names in losses_by_kind([row for run in runs for row in run.metrics]).items():
        # gan_ab makes images of B and disc_b judges them: both have B's colour
        series = [Series(_label(kind, name), name[-1:], metrics, ("losses", name)) for name in names]
        yield Kind(*LOSSES[kind], "loss", series)
    yield Kind(*RATE, [Series("", "d", metrics, ("lr",))])
    yield Kind(*SPEED, [Series("", "d", attrgetter("timing"), ("images_per_s",))])


def _held_out(rows: Rows) -> Iterator[Kind]:
    """A kind for each metric, with a series for each direction."""
    ways = [way for way in DIRECTIONS if any(_way(row) == way for row in rows)]
    for name in _names(rows, "values")[:MOST_CHARTS]:
        series = [
            Series(_label("gan", way), way[1], partial(_evaluations, way=way), ("values", name))
            for way in ways
        ]
        yield Kind(name.upper(), HELD_OUT.get(name, "Measured on held-out images."), "", series, zero=False)


def _evaluations(run: RunFolder, way: str) -> Rows:
    return [row for row in run.evaluations if _way(row) == way]


def _way(row: dict[str, Any]) -> str:
    """The direction of a held-out evaluation; rows of 0.1 are all of A to B."""
    return "ba" if row.get("direction") == "ba" else "ab"


def clocks(runs: Sequence[tuple[str, RunFolder]]) -> dict[str, list[list[float]]]:
    """Images seen and seconds of training of runs by their colours, from the start on; runs without times are left out."""
    found = {}
    for colour, run in runs:
        rows = [
            (row["images"], time) for row in run.timing if (time := number(row.get("seconds"))) is not None
        ]
        if rows:
            found[colour] = [list(column) for column in zip((0, 0), *rows, strict=True)]
    return found


def losses_by_kind(metrics: Rows) -> dict[str, list[str]]:
    """The names of all losses by the key of LOSSES that describes them; kinds without losses are left out."""
    kinds: dict[str, list[str]] = {kind: [] for kind in LOSSES}
    for name in _names(metrics, "losses"):
        kinds.get(name.partition("_")[0], kinds[""]).append(name)
    return {kind: sorted(names) if kind else names for kind, names in kinds.items() if names}


def chart(title: str, meaning: str, unit: str, curves: Iterable[Curve], zero: bool = True) -> Chart:
    """A chart of those curves that have a value other than 0; it may have none."""
    made = Chart(title, meaning, unit, zero, [], [])
    for label, colour, images, values in curves:
        if not any(values):
            continue
        if images not in made.axes:
            made.axes.append(images)
        short = [None if value is None else float(f"{value:.5g}") for value in values]
        axis = made.axes.index(images)
        made.curves.append({"label": label or title, "colour": colour, "axis": axis, "values": short})
    return made


def evenly(count: int, most: int) -> list[int]:
    """At most `most` (2 or more) of the places 0..count-1, evenly spaced, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _label(kind: str, name: str) -> str:
    domains = {"a": "A", "b": "B", "ab": "A→B", "ba": "B→A"} if kind else {}
    return domains.get(name.rpartition("_")[2], name)


def _names(rows: Rows, key: str) -> list[str]:
    return list(dict.fromkeys(str(name) for row in rows for name in as_dict(row.get(key))))
