"""The result of an evaluation: a table of estimates with a summary, as text, as a dict, and as files of a run."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from twofold.files import write_atomically
from twofold.formats import images
from twofold.formats.values import Uint8
from twofold.metrics.distribution import Estimate
from twofold.metrics.labels import to_rgb
from twofold.pages.run_folder import with_interval
from twofold.runs import Run


class Column(NamedTuple):
    """One metric's heading."""

    name: str
    better: Literal["higher", "lower", ""]


@dataclass
class Row:
    """One set of images, such as the translations or the untouched sources.

    Attributes:
        values: by column name; a metric that does not apply to these images is absent.
    """

    name: str
    values: dict[str, Estimate]


@dataclass
class Table:
    """What an evaluation measured: `table.rows`, `table.to_dict()`, `str(table)`.

    Attributes:
        rows: the translations first, then what they should beat.
        summary: one or two sentences.
        notes: what a reader has to know about the values.
        details: further keys of the dict.
        sheet: the first images beside their translations, uint8 (H, W, 3); `caption` says what is where.
    """

    title: str
    columns: list[Column]
    rows: list[Row]
    summary: str = ""
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    sheet: Uint8 | None = None
    caption: str = ""
    pictures: list[dict[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The content of the JSON file: values that are absent or not finite are None."""
        best = self.best_row()
        return {
            "title": self.title,
            "summary": self.summary,
            "columns": [column.name for column in self.columns],
            "better": [column.better for column in self.columns],
            "rows": [self._row(row) | {"best": row is best} for row in self.rows],
            "note": " ".join(self.notes),
            "pictures": self.pictures,
        } | self.details

    def _row(self, row: Row) -> dict[str, Any]:
        estimates = [row.values.get(column.name, Estimate(math.nan)) for column in self.columns]
        parts = [[six_digits(part) for part in column] for column in zip(*estimates, strict=True)]
        return {"name": row.name} | dict(zip(("values", "low", "high"), parts, strict=True))

    def best_row(self) -> Row | None:
        """The best row by the first metric that has a best and that several rows have."""
        for column in self.columns:
            rows = [row for row in self.rows if column.name in row.values]
            if column.better and len(rows) > 1:
                sign = 1 if column.better == "higher" else -1
                return max(rows, key=lambda row: sign * row.values[column.name].value)
        return None

    def add(self, sentence: str) -> None:
        self.summary = f"{self.summary} {sentence}".strip()

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1)

    def save(self, file: Path) -> None:
        write_atomically(file, self.to_json())

    def save_in(self, run: Run, name: str) -> Path:
        """Write the JSON, and the contact sheet beside it, to a new file of a run whose name begins with `name`."""
        file = run.new_evaluation(name)
        if self.sheet is not None:
            picture = file.with_suffix(".webp")
            images.write(self.sheet, picture)
            self.pictures = [{"caption": self.caption, "path": picture.relative_to(run.path).as_posix()}]
        self.save(file)
        return file

    def cells(self) -> list[list[str]]:
        """One line per metric: its name, then each row's value as text."""
        return [
            [column.name, *(as_text(row.values.get(column.name)) for row in self.rows)]
            for column in self.columns
        ]

    def __str__(self) -> str:
        lines = [["", *(row.name for row in self.rows)], *self.cells()]
        wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
        layout = "  ".join([f"{{:<{wide[0]}}}", *(f"{{:>{width}}}" for width in wide[1:])])
        grid = [layout.format(*line) for line in lines]
        return "\n".join(filter(None, [self.title, *grid, self.summary, *self.notes]))


def six_digits(value: float | None) -> float | None:
    """Six significant digits, or None where it is not finite."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def as_text(estimate: Estimate | None) -> str:
    """`21.93 ± 0.31`, as the pages show it."""
    if estimate is None or math.isnan(estimate.value):
        return "–"
    if not math.isfinite(estimate.value):
        return "∞" if estimate.value > 0 else "-∞"
    return with_interval(estimate.value, estimate.half)


ACROSS, SIDE = 2, 160
"""Groups in each line of a contact sheet, and the side in pixels that each image is resized to."""


def contact_sheet(groups: Sequence[Sequence[Uint8]]) -> Uint8:
    """Groups of images (H, W, C), such as (source, translation), side by side, with a gap between groups."""
    gap = np.full((SIDE, 8, 3), 255, np.uint8)
    resized = ([images.resize(to_rgb(x), SIDE, SIDE) for x in group] for group in groups)
    joined = [np.concatenate([*parts, gap], 1) for parts in resized]
    joined += [np.full_like(joined[0], 255)] * (-len(joined) % ACROSS)
    lines = [np.concatenate(joined[i : i + ACROSS], 1) for i in range(0, len(joined), ACROSS)]
    return np.concatenate(lines)[:, : -gap.shape[1]]
