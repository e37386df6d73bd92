"""The logs of runs as one CSV table."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from twofold.read_untrusted import as_dict, number
from twofold.runs import Run, read_lines

Row = dict[str, float]


def as_csv(runs: Sequence[tuple[str, Run]]) -> str:
    """Every whole row of the logs of named runs, joined by images seen; a value that a row lacks is empty.

    Columns: run, images, epoch, lr, `loss.NAME`, seconds, images_per_s, waiting, `held_out.DIRECTION.NAME`.
    """
    rows = [(_no_formula(name), images, row) for name, run in runs for images, row in _joined(run)]
    columns = list(dict.fromkeys(column for *_, row in rows for column in row))
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(["run", "images", *map(_no_formula, columns)])
    for name, images, row in rows:
        writer.writerow([name, f"{images:g}" if images % 1 else int(images), *map(row.get, columns)])
    return text.getvalue()


def _joined(run: Run) -> list[tuple[float, Row]]:
    rows: dict[float, Row] = {}
    for images, row in [*_rows(run.metrics), *_rows(run.timing), *_rows(run.evaluations)]:
        rows.setdefault(images, {}).update(row)
    return sorted(rows.items(), key=lambda each: each[0])


def _rows(log: Path) -> Iterator[tuple[float, Row]]:
    for line in read_lines(log):
        images = number(line.get("images"))
        if images is not None:
            values = ((name, number(value)) for name, value in _named(line))
            yield images, {name: value for name, value in values if value is not None}


def _named(line: dict[str, Any]) -> Iterable[tuple[str, object]]:
    """Names and values of a line; those of losses and held-out metrics say so."""
    for key, value in line.items():
        if key not in ("images", "losses", "values"):
            yield key, value
    for name, value in as_dict(line.get("losses")).items():
        yield f"loss.{name}", value
    for name, value in as_dict(line.get("values")).items():
        yield f"held_out.{line.get('direction', 'ab')}.{name}", value


def _no_formula(word: str) -> str:
    """A word that a spreadsheet does not take for a formula."""
    return f"'{word}" if word.startswith(("=", "+", "-", "@", "\t", "\r")) else word
