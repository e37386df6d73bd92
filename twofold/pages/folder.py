"""What the pages read of a run folder: whatever is missing, torn or not of the right kind is left out."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from twofold.pages.html import text
from twofold.read_untrusted import Mark, as_dict, as_list, as_yaml, mark, number, parsed, room
from twofold.runs import Run, read_evenly

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Found:
    """A run as its folder tells it; logs are thinned, their rows in the order of their images."""

    name: str
    config: dict[Any, Any]
    evaluation: dict[Any, Any]
    starts: list[dict[Any, Any]]
    metrics: Rows
    timing: Rows
    evaluations: Rows

    @property
    def last(self) -> dict[str, Any]:
        """The newest row of metrics."""
        return self.metrics[-1] if self.metrics else {}


def read(run: Run) -> Found:
    """Everything but data.json, which can be large; files are parsed anew only once they have changed."""
    return Found(
        run.path.resolve().name or "run",
        as_dict(parsed(run.config, as_yaml)),
        as_dict(parsed(run.evaluation, json.loads)),
        [start for start in map(as_dict, as_list(parsed(run.env, json.loads))) if start],
        *(_log(path, mark(path)) for path in (run.metrics, run.timing, run.evaluations)),
    )


@lru_cache(maxsize=64)
def _log(path: Path, mark: Mark | None) -> Rows:
    rows = read_evenly(path, POINTS) if mark else []
    return sorted((row for row in rows if number(row.get("images")) is not None), key=seen)


POINTS = 800
"""Most points of a curve: about what a wide screen can show."""


def seen(row: dict[str, Any]) -> float:
    """Images seen at a row."""
    return row["images"]


def goal(config: dict[Any, Any], last: dict[str, Any]) -> tuple[int, float]:
    """Images and epochs after which a run is done, by its newest row; 0 where the folder does not say."""
    training, epoch = room(config, "training"), number(last.get("epoch"))
    epochs = sum(number(training.get(key)) or 0 for key in ("epochs", "decay_epochs"))
    length = round(seen(last) / epoch) if epoch and epoch > 1e-6 else 0  # of an epoch; a whole number
    return round(number(training.get("total_images")) or length * epochs), epochs


def pace(timing: Rows) -> float:
    """Images a second of a usual report among these, 0 if none says."""
    speeds = [speed for row in timing if (speed := number(row.get("images_per_s"))) and speed > 0]
    return median(speeds) if speeds else 0.0


def duration(seconds: float) -> str:
    """Seconds as people say them; empty for none."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s" if seconds else ""
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def headline(found: Found, folders: dict[str, str], facts: dict[str, str], status: str = "") -> str:
    """The top of a run's page: its method, name and domains, how far it is, and what else is to be said.

    `facts` are names of figures and their HTML; empty ones are left out. `status` is HTML.
    """
    shown = "".join(f"<div><dt>{what}</dt><dd>{value}</dd></div>" for what, value in facts.items() if value)
    arrow = " ⇄ " if found.config.get("method") in (None, "cyclegan") else " → "
    domains = arrow.join(
        f"<b class={side}>{side.upper()}</b> {text(Path(path).name)}" for side, path in folders.items()
    )
    method = text(found.config.get("method") or "a run")
    return (
        f"<header><p class=soft>twofold · {method}</p><h1>{text(found.name)}</h1>"
        f"<p class=domains>{domains}</p>{status}{bar(found.config, found.last)}<dl class=facts>{shown}</dl></header>"
    )


def bar(config: dict[Any, Any], last: dict[str, Any]) -> str:
    """How far a run is, as a bar; nothing where its end is not known."""
    total, _ = goal(config, last)
    share = 100 * last.get("images", 0) / total if total else 0
    return f'<div class=bar><i style="width:{min(100.0, share):.1f}%"></i></div>' if total else ""


def progress(found: Found) -> dict[str, str]:
    """Facts for the headline: images and epochs, done and to do."""
    total, epochs = goal(found.config, found.last)
    images, epoch = int(found.last.get("images", 0)), number(found.last.get("epoch"))
    return {
        "images seen": f"{images:,}" + (f"<small>of {total:,}</small>" if total else ""),
        "epoch": (f"{epoch:.1f}" if epoch else "")
        + (f"<small>of {epochs:g}</small>" if epoch and epochs else ""),
    }


def paired(found: Found) -> bool:
    """Whether the run has the right answers to its images."""
    return bool(room(found.config, "data").get("paired"))


def device(found: Found) -> str:
    """Where the run trains, by its newest start that says."""
    return text(next((start["device"] for start in reversed(found.starts) if start.get("device")), ""))
