"""A run's logs as charts: its losses by what they mean, its speed, its evaluations; and several runs in one."""

from collections.abc import Callable
from typing import Any, NamedTuple

from twofold.pages.charts import COLOURS, Series, chart
from twofold.pages.folder import Found, Rows, seen
from twofold.read_untrusted import as_dict, number

LOSSES = {  # by the first word of their names
    "gan": ("Adversarial", "How far a translator is from passing its images off as real to their critic."),
    "cycle": ("Cycle", "How much an image has changed once it is translated and translated back."),
    "idt": ("Identity", "How much a translator changes an image that is already what it should be."),
    "disc": ("Critics", "How far a critic is from telling real from translated; near zero, it has won."),
    "nce": (
        "Contrast",
        "How hard it is to find the patch of the source that a patch of the translation is of.",
    ),
    "l1": ("Distance", "How far a translation is from the right answer, pixel by pixel."),
    "l2": ("Distance", "How far a translation is from the right answer, pixel by pixel, squared."),
    "perceptual": ("Likeness", "How far two images that should be alike are in the features of a network."),
    "rec": (
        "Critics of the way back",
        "How far these critics are from telling real from translated and back.",
    ),
    "": ("Other losses", "The rest of what this method minimises."),
}

STOP = """The losses of a GAN do not say when to stop. Translators and critics are rivals: each is measured
against an opponent that keeps changing, so a flat curve can hide progress and a falling one can hide trouble.
Judge by the pictures, and by an evaluation on images that were held out."""

HELD_OUT = "On images that were held out of training."
MOST = 12  # evaluation charts, and loss charts where runs are compared

SMOOTHING = """<div class=smoothing><label>Smoothing <input type=range min=0 max=5 value=2></label>
<span class=soft>Strong lines are smoothed; what was measured stands faint behind them. Losses are shown as they are
minimised, weights included.</span></div>"""

LABELS = {"a": "A", "b": "B", "ab": "A→B", "ba": "B→A"}


class Single(NamedTuple):
    """A figure of which every row has one: its chart's title, meaning and unit, and how to get it."""

    title: str
    meaning: str
    unit: str
    key: str
    rows: Callable[[Found], Rows]


SINGLES = [
    Single("Learning rate", "How far one step moves the weights.", "", "lr", lambda found: found.metrics),
    Single(
        "Throughput",
        "Pairs of images trained on in a second.",
        "images/s",
        "images_per_s",
        lambda found: found.timing,
    ),
]


def curves(found: Found) -> str:
    """The curves of one run, each domain's losses in its colour."""
    charts = [_evaluation(name, [("", "c", found)]) for name in _measured([found])]
    names = _names(found.metrics)
    charts += [_losses(kind, of_kind(kind, names), found) for kind in LOSSES]
    charts += [_single(single, [(single.title, "d", found)]) for single in SINGLES]
    return _together(charts)


def compared(runs: list[tuple[str, Found]]) -> str:
    """The curves of several runs, as many as there are COLOURS: one chart a figure, a colour a run."""
    each = [(name, colour, found) for (name, found), colour in zip(runs, COLOURS, strict=False)]
    names = _names([row for _, _, found in each for row in found.metrics])
    charts = [_evaluation(name, each) for name in _measured([found for _, _, found in each])]
    charts += [_loss(name, kind, each) for kind in LOSSES for name in of_kind(kind, names)[:MOST]]
    charts += [_single(single, each) for single in SINGLES]
    return _together(charts)


def _together(charts: list[str]) -> str:
    if not any(charts):
        return "<p class=soft>No curve yet: they begin with the first report of the losses.</p>"
    return f"<p class=note>{STOP}</p>{SMOOTHING}<div class=charts>{''.join(charts)}</div>"


def _names(metrics: Rows) -> list[str]:
    return list(dict.fromkeys(str(name) for row in metrics for name in as_dict(row.get("losses"))))


def of_kind(kind: str, names: list[str]) -> list[str]:
    """The losses whose names begin with `kind`; those of no known kind are of kind ""."""
    heads = {name: name.partition("_")[0] for name in names}
    return [name for name, head in heads.items() if (head if head in LOSSES else "") == kind]


def words(metrics: Rows) -> dict[str, str]:
    """What the losses of a run mean: their names, with commas between those of one kind."""
    names = _names(metrics)
    kinds = {kind: of_kind(kind, names)[:200] for kind in LOSSES}
    return {", ".join(same): LOSSES[kind][1] for kind, same in kinds.items() if same}


def _losses(kind: str, names: list[str], found: Found) -> str:
    title, meaning = LOSSES[kind]
    free, series = list(COLOURS[:4]), []
    for name in names[: len(free)]:
        wanted = name[-1:]  # gan_ab makes images of B, disc_b judges them: both wear B's colour
        colour = free.pop(free.index(wanted) if wanted in free else -1)
        series.append(
            _series(_label(kind, name), found.metrics, lambda row, name=name: _of(row, name), colour)
        )
    return chart(title, meaning, "loss", series) if series else ""


def _loss(name: str, kind: str, runs: list[tuple[str, str, Found]]) -> str:
    title, meaning = LOSSES[kind]
    series = [_series(run, found.metrics, lambda row: _of(row, name), colour) for run, colour, found in runs]
    return chart(f"{title} {_label(kind, name)}" if kind else name, meaning, "loss", series)


def _of(row: dict[str, Any], name: str, of: str = "losses") -> float | None:
    return number(as_dict(row.get(of)).get(name))


def _label(kind: str, name: str) -> str:
    return LABELS.get(name.rpartition("_")[2], name) if kind else name


def _single(single: Single, runs: list[tuple[str, str, Found]]) -> str:
    series = [
        _series(name, single.rows(found), lambda row: number(row.get(single.key)), colour)
        for name, colour, found in runs
    ]
    told = any(value for each in series for value in each.values)
    return chart(single.title, single.meaning, single.unit, series) if told else ""


def _measured(runs: list[Found]) -> list[str]:
    rows = (row for found in runs for row in found.evaluations)
    return list(dict.fromkeys(str(name) for row in rows for name in as_dict(row.get("values"))))[:MOST]


def _evaluation(name: str, runs: list[tuple[str, str, Found]]) -> str:
    series = [
        _series(run or name, found.evaluations, lambda row: _of(row, name, "values"), colour)
        for run, colour, found in runs
    ]
    return chart(name, HELD_OUT, "", series, zero=False)


def _series(label: str, rows: Rows, value: Callable[[dict[str, Any]], float | None], colour: str) -> Series:
    return Series(label, [seen(row) for row in rows], [value(row) for row in rows], colour)
