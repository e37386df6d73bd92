"""Line charts of one run or of several runs over the images seen or the time; static/charts.js draws them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from twofold.pages.run_folder import Rows, RunFolder
from twofold.read_untrusted import as_dict, number
from twofold.runs import DIRECTIONS

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
HELD_OUT = {
    "swd": "Sliced Wasserstein distance of patches: how far translations are from held-out images of their domain. Lower"
    " is better.",
    "structure": "Correlation of the edges of source and translation, on held-out images; 1 is equal.",
}
"""The meaning of held-out metrics that need more words than that they are held out."""
RATE = "Learning rate", "The step size of the generators' optimizer.", ""
SPEED = "Throughput", "Pairs of images trained on in a second.", "images/s"

MOST_CURVES, MOST_CHARTS = 4, 12
"""Curves in a chart of one run; charts of held-out metrics, and of one kind of loss where runs are compared."""


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


def run_charts(run: RunFolder) -> list[Chart]:
    """The charts of one run: one for each kind of loss, in which the losses of a domain have its colour."""
    losses = [
        chart(*LOSSES[kind], "loss", _curves_of_kind(kind, names, run.metrics))
        for kind, names in losses_by_kind(run.metrics).items()
    ]
    return _with_others(losses, [("", "", run)])


def comparison_charts(runs: Sequence[tuple[str, RunFolder]]) -> list[Chart]:
    """The charts of several named runs, as many as there are COLOURS: one for each loss, each run in a colour."""
    coloured = [(label, colour, run) for (label, run), colour in zip(runs, COLOURS, strict=False)]
    losses = []
    for kind, names in losses_by_kind([row for _, run in runs for row in run.metrics]).items():
        title, meaning = LOSSES[kind]
        for name in names[:MOST_CHARTS]:
            curves = [_curve(label, colour, run.metrics, "losses", name) for label, colour, run in coloured]
            losses.append(chart(f"{title} {_label(kind, name)}", meaning, "loss", curves))
    return _with_others(losses, coloured)


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


def _with_others(losses: list[Chart], runs: list[tuple[str, str, RunFolder]]) -> list[Chart]:
    """Those with curves among the charts of held-out metrics, losses, rate and speed; a single run has no colour."""

    def curves(colour: str, log: str, *keys: str) -> list[Curve]:
        return [_curve(label, own or colour, getattr(run, log), *keys) for label, own, run in runs]

    charts = [
        *_held_out(runs),
        *losses,
        chart(*RATE, curves("d", "metrics", "lr")),
        chart(*SPEED, curves("d", "timing", "images_per_s")),
    ]
    return [each for each in charts if each.curves]


def _held_out(runs: list[tuple[str, str, RunFolder]]) -> Iterator[Chart]:
    """The charts of held-out metrics; one run has both directions in one chart, several have a chart for each."""
    rows = [row for *_, run in runs for row in run.evaluations]
    ways = [way for way in DIRECTIONS if any(_way(row) == way for row in rows)]
    arrows = {way: _label("gan", f"gan_{way}") if len(ways) > 1 else "" for way in ways}

    def curves(way: str, name: str) -> list[Curve]:
        own = [[row for row in run.evaluations if _way(row) == way] for *_, run in runs]
        looks = [
            (label or arrows[way], colour or (way[1] if arrows[way] else "c")) for label, colour, _ in runs
        ]
        return [_curve(*look, log, "values", name) for look, log in zip(looks, own, strict=True)]

    for name in _names(rows, "values")[:MOST_CHARTS]:
        title, meaning = name.upper(), HELD_OUT.get(name, "Measured on held-out images.")
        if runs[0][0]:
            for way, arrow in arrows.items():
                yield chart(f"{title} {arrow}".strip(), meaning, "", curves(way, name), False)
        else:
            yield chart(title, meaning, "", [curve for way in ways for curve in curves(way, name)], False)


def _way(row: dict[str, Any]) -> str:
    """The direction of a held-out evaluation; rows of 0.1 are all of A to B."""
    return "ba" if row.get("direction") == "ba" else "ab"


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


def _curves_of_kind(kind: str, names: list[str], metrics: Rows) -> Iterator[Curve]:
    free = list(COLOURS[:MOST_CURVES])
    for name in names[:MOST_CURVES]:
        domain = name[-1:]  # gan_ab makes images of B and disc_b judges them: both have B's colour
        colour = free.pop(free.index(domain) if domain in free else -1)
        yield _curve(_label(kind, name), colour, metrics, "losses", name)


def _label(kind: str, name: str) -> str:
    domains = {"a": "A", "b": "B", "ab": "A→B", "ba": "B→A"} if kind else {}
    return domains.get(name.rpartition("_")[2], name)


def _names(rows: Rows, key: str) -> list[str]:
    return list(dict.fromkeys(str(name) for row in rows for name in as_dict(row.get(key))))


def _curve(label: str, colour: str, rows: Rows, *keys: str) -> Curve:
    """The values of a key in each row, or of a second key in a mapping there."""
    found: list[Any] = rows
    for key in keys:
        found = [as_dict(value).get(key) for value in found]
    return Curve(label, colour, [row["images"] for row in rows], [*map(number, found)])
