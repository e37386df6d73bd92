"""Line charts over images seen, smoothed and drawn to the screen's width by script.js."""

from collections.abc import Sequence
from typing import NamedTuple

from twofold.pages.html import json_block, text

COLOURS = ("a", "b", "c", "d", "e", "f", "g", "h")
"""Colours of style.css; the first two are those of the domains."""


class Series(NamedTuple):
    """One curve: its label, values (None is a gap) at images seen, in rising order, and one of COLOURS."""

    label: str
    images: list[float]
    values: list[float | None]
    colour: str


def chart(title: str, meaning: str, unit: str, series: Sequence[Series], zero: bool = True) -> str:
    """A figure of those curves that have a value; nothing if none has. Its scale begins at zero, if that is told.

    Without a script the legend still says the last values.
    """
    told = [each for each in series if any(value is not None for value in each.values)]
    if not told:
        return ""
    axes = list(dict.fromkeys(tuple(each.images) for each in told))  # curves of one log share theirs
    curves = [
        {"label": label, "colour": colour, "axis": axes.index(tuple(images)), "values": _short(values)}
        for label, images, values, colour in told
    ]
    legend = "".join(
        f"<li class={text(each.colour)}>{text(each.label)} <b>{_last(each.values)}</b></li>" for each in told
    )
    data = {"title": title, "unit": unit, "zero": zero, "axes": axes, "curves": curves}
    return (
        f"<figure class=chart><figcaption><h3>{text(title)}</h3><p>{text(meaning)}</p></figcaption>"
        f"<ul class=legend>{legend}<li class=where></li></ul><div class=plot></div>"
        f"{json_block(data)}</figure>"
    )


def evenly(count: int, most: int) -> list[int]:
    """At most `most` (2 or more) of the places 0..count-1, evenly spaced, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _short(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.5g}") for value in values]


def _last(values: Sequence[float | None]) -> str:
    return next((f"{value:.3g}" for value in reversed(values) if value is not None), "–")
