"""Line charts over images seen: thinned and smoothed here, drawn to the screen's width by script.js."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twofold.pages.html import json_block, text

POINTS = 600
"""Most points of a curve: about what a wide screen can show."""

COLOURS = ("a", "b", "c", "d")
"""Colours of style.css; the first two are those of the domains."""


class Series(NamedTuple):
    """One curve: its label, its values (None is a gap) and one of COLOURS."""

    label: str
    values: list[float | None]
    colour: str


def read_evenly(path: Path, most: int = POINTS) -> list[dict[str, Any]]:
    """At most `most` rows of a log, evenly spaced, the first and the last whole one among them.

    Only these are parsed, so that a log of any length costs little more than reading its bytes. Torn lines
    are left out; a missing file is an empty log.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    while lines and _row(lines[-1]) is None:
        lines.pop()
    rows = (_row(lines[place]) for place in evenly(len(lines), most))
    return [row for row in rows if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def evenly(count: int, most: int) -> list[int]:
    """At most `most` (2 or more) of the places 0..count-1, evenly spaced, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def number(value: object) -> float | None:
    """A finite number, or None for whatever else a log may hold."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100:
        return float(value)
    return None


def smooth(values: Sequence[float | None], reach: int) -> list[float | None]:
    """The mean of the middle half of the neighbours within reach: a spike leaves no trace; gaps stay."""
    smoothed: list[float | None] = []
    for place, value in enumerate(values):
        near = sorted(v for v in values[max(0, place - reach) : place + reach + 1] if v is not None)
        middle = near[len(near) // 4 : len(near) - len(near) // 4]
        smoothed.append(None if value is None else sum(middle) / len(middle))
    return smoothed


def chart(title: str, meaning: str, unit: str, images: list[float], series: list[Series]) -> str:
    """A figure of curves over `images`, the images seen, in rising order.

    Every series has one value for each of `images`. Long curves are smoothed, with the measured values faint
    behind. Without a script the legend still says the last values.
    """
    reach = len(images) // 50
    curves = [
        {"label": label, "colour": colour, "raw": _short(values), "smooth": _short(smooth(values, reach))}
        for label, values, colour in series
    ]
    legend = "".join(
        f"<li class={text(curve['colour'])}>{text(curve['label'])} <b>{_last(curve['smooth'])}</b></li>"
        for curve in curves
    )
    return (
        f"<figure class=chart><figcaption><h3>{text(title)}</h3><p>{text(meaning)}</p></figcaption>"
        f"<ul class=legend aria-live=polite>{legend}<li class=where></li></ul><div class=plot></div>"
        f"{json_block({'title': title, 'unit': unit, 'images': images, 'curves': curves})}</figure>"
    )


def _short(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.5g}") for value in values]


def _last(values: Sequence[float | None]) -> str:
    return next((f"{value:.3g}" for value in reversed(values) if value is not None), "–")
