"""Read what the pages show of a run folder. Values that are missing, torn or of the wrong type are left out."""

import json
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice, zip_longest
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from twofold.read_untrusted import Mark, as_dict, as_list, as_yaml, mark, number, parsed, room
from twofold.runs import DIRECTIONS, Run, read_evenly

POINTS = 800
"""Most points of a curve: about what a wide screen can show."""

ROWS = 200
"""Most rows of a table."""

Rows = list[dict[str, Any]]


class RunFolder(NamedTuple):
    """A run's small files and its thinned logs, whose rows are in the order of their images."""

    name: str
    config: dict[Any, Any]
    evaluation: dict[Any, Any]
    starts: list[dict[Any, Any]]
    metrics: Rows
    timing: Rows
    evaluations: Rows

    @property
    def progress(self) -> "Progress":
        return progress(self.config, self.metrics[-1] if self.metrics else {})

    @property
    def paired(self) -> bool:
        """Whether each image has a right answer."""
        return bool(room(self.config, "data").get("paired"))


class Progress(NamedTuple):
    """How far a run is; 0 where the folder does not say."""

    images: int
    total: int
    epoch: float
    epochs: float

    @property
    def share(self) -> float:
        """The part of the run that is done, 0 to 1; 0 where its end is not known."""
        return min(1.0, self.images / self.total) if self.total else 0.0


def read(run: Run) -> RunFolder:
    """Everything except data.json, which can be large; a file is parsed again only after it has changed."""
    return RunFolder(
        run.path.resolve().name or "run",
        as_dict(parsed(run.config, as_yaml)),
        as_dict(parsed(run.evaluation, json.loads)),
        [start for start in map(as_dict, as_list(parsed(run.env, json.loads))) if start],
        _log(run.metrics, mark(run.metrics)),
        _log(run.timing, mark(run.timing)),
        _log(run.evaluations, mark(run.evaluations), len(DIRECTIONS)),
    )


@lru_cache(maxsize=64)
def _log(path: Path, mark: Mark | None, together: int = 1) -> Rows:
    rows = read_evenly(path, POINTS, together) if mark else []
    return sorted(
        (row for row in rows if number(row.get("images")) is not None), key=lambda row: row["images"]
    )


def progress(config: dict[Any, Any], last: dict[str, Any]) -> Progress:
    """How far a run is, by its settings and its newest row of metrics.jsonl."""
    training, images = room(config, "training"), last.get("images", 0)
    epoch = number(last.get("epoch")) or 0.0
    epochs = sum(number(training.get(key)) or 0 for key in ("epochs", "decay_epochs"))
    epoch_length = round(images / epoch) if epoch > 1e-6 else 0
    total = round(number(training.get("total_images")) or epoch_length * epochs)
    return Progress(int(images), total, epoch, epochs)


def usual_speed(timing: Rows) -> float:
    """The median of the images per second of these reports; 0 without any."""
    speeds = [speed for row in timing if (speed := number(row.get("images_per_s"))) and speed > 0]
    return median(speeds) if speeds else 0.0


def duration(seconds: float) -> str:
    """Seconds as "89 s", "5 min" or "2 h 05 min"; empty for 0."""
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if minutes > 1 else f"{seconds:.0f} s" if seconds else ""


def facts(run: RunFolder, speed: float, seconds_left: float = 0.0) -> list[tuple[str, str, str]]:
    """The figures at the top of a run's page: name, value and detail; those without a value are left out."""
    images, total, epoch, epochs = run.progress
    decimals = max(1, len(f"{epochs:g}".partition(".")[2]))  # else 0.75 of 0.75 would be 0.8
    spent = number(run.timing[-1].get("seconds")) if run.timing else None
    device = next((start["device"] for start in reversed(run.starts) if start.get("device")), "")
    found = [
        ("images seen", f"{images:,}", f"of {total:,}" if total else ""),
        ("epoch", f"{epoch:.{decimals}f}" if epoch else "", f"of {epochs:g}" if epochs else ""),
        ("images/s", f"{speed:.3g}" if speed else "", ""),
        ("time left", duration(seconds_left), ""),
        ("time spent", duration(spent or 0), ""),
        ("device", str(device), ""),
    ]
    return [fact for fact in found if fact[1]]


def evaluation(found: dict[Any, Any]) -> dict[str, Any]:
    """The title, summary, note, origin, candidates and metrics of an evaluation's file; empty if it has nothing.

    A candidate has a name, and whether it is the best; a metric has a name, and the value of each candidate.
    """
    texts = {key: str(found.get(key) or "") for key in ("title", "summary", "note", "date", "command")}
    models = [str(each["file"]) for each in map(as_dict, as_list(found.get("snapshots"))) if "file" in each]
    origin = " · ".join(filter(None, [texts["date"][:10], ", ".join(models)]))
    rows = [*map(as_dict, as_list(found.get("rows"))[:ROWS])]
    candidates = [(str(row.get("name") or ""), bool(row.get("best"))) for row in rows]
    parts = ([as_list(row.get(key)) for key in ("values", "low", "high")] for row in rows)
    cells = [[_figure(*each) for each in zip_longest(*part)] for part in parts]
    names = as_list(found.get("columns"))
    metrics = [(name, each) for name, *each in zip_longest(names, *cells, fillvalue="–")][: len(names)]
    return texts | {"origin": origin, "candidates": candidates, "metrics": metrics} if found else {}


def _figure(value: object, low: object, high: object) -> str:
    if not isinstance(value, float):
        return "–" if value is None else str(value)
    half = (high - low) / 2 if isinstance(low, float) and isinstance(high, float) else None
    return with_interval(value, half)


def with_interval(value: float, half: float | None) -> str:
    """`21.93 ± 0.31`, with two digits of half the interval, or three digits of the value where there is none."""
    scale, digits = (half, 1) if half else (abs(value) or 1.0, 2)
    places = min(6, max(0, digits - math.floor(math.log10(scale))))
    text = f"{round(value, places) + 0.0:.{places}f}"  # + 0.0, so that there is no -0.0
    return f"{text} ± {half:.{places}f}" if half else text


def settings_by_room(config: dict[Any, Any]) -> dict[str, list[tuple[str, object]]]:
    """Names and values of every setting; those that belong to no room are under "run"."""
    rooms = {"run": {key: value for key, value in config.items() if not isinstance(value, dict)}}
    rooms |= {str(key): value for key, value in config.items() if isinstance(value, dict)}
    return {name: table(values) for name, values in rooms.items() if values}


def differences(configs: Sequence[dict[Any, Any]]) -> list[tuple[str, list[object]]]:
    """The settings that are not the same in all of these, at most ROWS, each with its values; "not set" where missing."""
    flat = [dict(_flat(config)) for config in configs]
    names = dict.fromkeys(name for each in flat for name in each)
    values = ((name, [each.get(name, "not set") for each in flat]) for name in names)
    return list(islice(((name, row) for name, row in values if any(each != row[0] for each in row)), ROWS))


def table(values: dict[Any, Any]) -> list[tuple[str, object]]:
    """A nested mapping as at most ROWS names and values; a name is like `generator.width`."""
    return list(islice(_flat(values), ROWS))


def _flat(values: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "–" if value is None else value
