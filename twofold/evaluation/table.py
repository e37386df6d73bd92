"""The result of an evaluation: rows of figures, what they say in words, and the JSON that reports read."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.measures import Column
from twofold.formats import images
from twofold.metrics.distribution import Figure
from twofold.metrics.labels import colours

Uint8 = NDArray[np.uint8]

PICTURE = "evaluation.webp"
"""The contact sheet's name in a run folder."""


@dataclass
class Row:
    """One way to make images of the other domain; a figure is None where it means nothing."""

    name: str
    figures: dict[str, Figure]
    """By the names of columns."""


@dataclass
class Table:
    """What an evaluation found.

    Attributes:
        columns: the measures.
        rows: the translations first, then what they should beat.
        summary: one or two sentences.
        notes: what one has to know to read the figures.
        extra: further keys of the JSON.
        sheet: the first images, side by side with what became of them; the caption says which is which.
    """

    title: str
    columns: list[Column]
    rows: list[Row]
    summary: str = ""
    notes: list[str] = field(default_factory=list)
    pictures: list[dict[str, str]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    sheet: Uint8 | None = None
    caption: str = ""

    def best(self) -> Row | None:
        """The best row by the first measure that has a best and that several rows have."""
        for column in self.columns:
            rows = [row for row in self.rows if column.name in row.figures]
            if column.better and len(rows) > 1:
                sign = 1 if column.better == "higher" else -1
                return max(rows, key=lambda row: sign * row.figures[column.name].value)
        return None

    def to_json(self) -> str:
        """The text of evaluation.json: figures that are not finite, or that a row has not, are null."""
        best = self.best()
        return json.dumps(
            {
                "title": self.title,
                "summary": self.summary,
                "columns": [column.name for column in self.columns],
                "better": [column.better for column in self.columns],
                "rows": [self._row(row) | {"best": row is best} for row in self.rows],
                "note": " ".join(self.notes),
                "pictures": self.pictures,
            }
            | self.extra,
            indent=1,
        )

    def picture_in(self, folder: Path) -> None:
        """Write the contact sheet there and name it in the JSON."""
        if self.sheet is not None:
            images.write(self.sheet, folder / PICTURE)
            self.pictures = [{"caption": self.caption, "path": PICTURE}]

    def _row(self, row: Row) -> dict[str, Any]:
        figures = [row.figures.get(column.name, Figure(math.nan)) for column in self.columns]
        values, low, high = ([plain(part) for part in parts] for parts in zip(*figures, strict=True))
        return {"name": row.name, "values": values, "low": low, "high": high}

    def cells(self) -> list[list[str]]:
        """The table with a line for each measure: its name, then a cell for each row."""
        return [
            [column.name, *(spelled(row.figures.get(column.name)) for row in self.rows)]
            for column in self.columns
        ]


def plain(value: float | None) -> float | None:
    """Six digits, or None where it is no number."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def spelled(figure: Figure | None) -> str:
    """`21.93 ± 0.31`, with two digits of uncertainty, or three digits where there is none."""
    if figure is None or math.isnan(figure.value):
        return "–"
    value, low, high = figure
    half = (high - low) / 2 if low is not None and high is not None else 0.0
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    scale, digits = (half, 1) if half > 0 else (abs(value) or 1.0, 2)
    places = min(6, max(0, digits - math.floor(math.log10(scale))))
    return f"{value:.{places}f}" + (f" ± {half:.{places}f}" if half > 0 else "")


def contact_sheet(
    columns: Sequence[Sequence[Uint8]], rows: int = 4, across: int = 2, side: int = 160
) -> Uint8:
    """The first images side by side with what became of them, `across` groups in each of `rows` rows.

    Args:
        columns: sources, translations and so on, each image (H, W, C).
        side: what images are resized to, in pixels.
    """
    groups = [
        np.concatenate([images.resize(colours(image), side, side) for image in group], 1)
        for group in list(zip(*columns, strict=True))[: rows * across]
    ]
    gap = np.full((side, 8, 3), 255, np.uint8)
    groups += [np.full_like(groups[0], 255)] * (-len(groups) % across)
    lines = [
        np.concatenate([part for group in groups[i : i + across] for part in (group, gap)][:-1], 1)
        for i in range(0, len(groups), across)
    ]
    return np.concatenate(lines)
