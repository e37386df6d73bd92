"""Run folders that are watched: which there are, and what each of them is doing."""

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from twofold.pages.folder import goal
from twofold.read_untrusted import Mark, as_dict, as_yaml, mark, number, parsed, room
from twofold.runs import FORMAT, Run, last_row

State = Literal["starting", "training", "quiet", "finished"]

DEEP = 2
"""Levels of a given folder that are searched for runs."""

RESCAN, BUSY = 2.0, 0.1
"""Seconds between searches, at least; and the share of the time that searching may take."""

PATIENCE = 120.0
"""Seconds without a word after which a run is quiet, if that is more than five usual reports."""


class Watched(NamedTuple):
    """One run: its part of an address, the name it is shown by, its folder, and when its settings were written."""

    key: str
    name: str
    run: Run
    began: int


class Watch:
    """The runs among and inside some folders, looked up again as time goes by."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = [folder.absolute() for folder in folders]
        self._found: dict[str, Watched] = {}
        self._due = 0.0

    def runs(self) -> dict[str, Watched]:
        """Runs by key; the one that was started last comes first."""
        begun = time.monotonic()
        if begun >= self._due:
            self._found = {each.key: each for each in sorted(self._search(), key=_newest)}
            took = time.monotonic() - begun
            self._due = begun + took + max(RESCAN, took / BUSY)
        return self._found

    def _search(self) -> Iterator[Watched]:
        for folder in self.folders:
            if (began := _began(str(folder))) is not None:
                yield _watched(str(folder), folder.resolve().name, began)
            else:
                for path, began in _inside(str(folder), DEEP):
                    yield _watched(path, os.path.relpath(path, folder), began)


def _newest(each: Watched) -> tuple[int, str]:
    return -each.began, each.name


def _inside(folder: str, deep: int) -> Iterator[tuple[str, int]]:
    """Run folders and when their settings were written; as text, which is a fifth of the work that paths are."""
    try:
        with os.scandir(folder) as entries:
            folders = [each.path for each in entries if not each.name.startswith(".") and each.is_dir()]
    except OSError:
        return
    for path in folders:
        if (began := _began(path)) is not None:
            yield path, began
        elif deep > 1:
            yield from _inside(path, deep - 1)


def _began(folder: str) -> int | None:
    """When a run's settings were written; None where there is no run."""
    try:
        found = os.stat(f"{folder}/config.yaml")  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns if stat.S_ISREG(found.st_mode) else None


@lru_cache(maxsize=4096)
def _watched(path: str, name: str, began: int) -> Watched:
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:10]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-")
    return Watched(f"{slug}-{digest}".lstrip("-"), name, Run(Path(path)), began)


def touched(run: Run) -> float:
    """When a run last wrote what is watched, in seconds since 1970; 0 if never."""
    marks = (mark(path) for path in (run.metrics, run.config))
    return max((each[2] / 1e9 for each in marks if each), default=0.0)


def trace(run: Run) -> tuple[Mark | None, ...]:
    """What changes whenever a page about the run would."""
    logs = (run.metrics, run.timing, run.evaluations, run.evaluation)
    return tuple(map(mark, (run.config, run.env, *logs, run.path / "samples")))


class Glance(NamedTuple):
    """A run at a glance."""

    config: dict[Any, Any]
    last: dict[str, Any]
    """The newest row of metrics."""
    speed: float
    """Images a second, lately; 0 if unknown."""
    state: State

    @property
    def left(self) -> float:
        """Seconds until a run that trains is done; 0 if that cannot be said."""
        total, _ = goal(self.config, self.last)
        more = total - self.last.get("images", 0)
        return more / self.speed if self.speed and more > 0 and self.state == "training" else 0.0


def glance(each: Watched) -> Glance:
    """Read of a run what a list shows; the ends of its logs alone."""
    run = each.run
    config, last, clock = as_dict(parsed(run.config, as_yaml)), _end(run.metrics), _end(run.timing)
    speed = max(0.0, number(clock.get("images_per_s")) or 0.0)
    return Glance(config, last, speed, state(config, last, speed, time.time() - touched(run)))


def _end(log: Path) -> dict[str, Any]:
    row = _last_row(log, mark(log)) or {}
    return row if number(row.get("images")) is not None else {}


@lru_cache(maxsize=4096)
def _last_row(log: Path, mark: Mark | None) -> dict[str, Any] | None:
    return last_row(log) if mark else None


def state(config: dict[Any, Any], last: dict[str, Any], speed: float, silence: float) -> State:
    """What a run is doing whose last word was `silence` seconds ago; its folder does not say, so this is a guess."""
    total, epochs = goal(config, last)
    if (total and last.get("images", 0) >= total) or (epochs and (number(last.get("epoch")) or 0) >= epochs):
        return "finished"
    every = number(room(config, "training").get("report_every")) or 0
    usual = every / speed if speed else 0.0
    if silence > max(PATIENCE, 5 * usual):
        return "quiet"
    return "training" if last else "starting"


def too_new(config: dict[Any, Any]) -> str:
    """Why a run cannot be read, if its folder was written by a later twofold."""
    version = config.get("format", FORMAT)
    if isinstance(version, int) and version <= FORMAT:
        return ""
    return f"This run has format {version}; this twofold reads up to {FORMAT}. Update twofold to see it."
