"""The runs in the folders that are watched, and what each of them is doing."""

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from twofold.files import is_locked
from twofold.pages.run_folder import Progress, progress
from twofold.read_untrusted import Mark, as_dict, as_yaml, mark, number, parsed, room
from twofold.runs import FORMAT, Run, last_row

State = Literal["starting", "training", "quiet", "stopped", "finished"]

DEPTH = 2
"""Levels of a given folder that are searched for runs."""

RESCAN_AFTER, SCAN_SHARE = 2.0, 0.1
"""Least seconds between searches; the largest share of the time that searching may take."""

QUIET_AFTER = 120.0
"""Seconds without a report after which a run is quiet, if that is longer than five usual reports take."""


class Watched(NamedTuple):
    """A run: its part of an address, the name it is shown by, its folder, and when its settings were written (ns)."""

    key: str
    name: str
    run: Run
    started: int


class Watch:
    """The runs among and inside some folders, searched again as time passes."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = [folder.absolute() for folder in folders]
        self._found: dict[str, Watched] = {}
        self._next_search = 0.0

    def runs(self) -> dict[str, Watched]:
        """Runs by key; the one that was started last comes first."""
        start = time.monotonic()
        if start >= self._next_search:
            newest_first = sorted(self._search(), key=lambda each: (-each.started, each.name))
            self._found = {each.key: each for each in newest_first}
            took = time.monotonic() - start
            self._next_search = start + took + max(RESCAN_AFTER, took / SCAN_SHARE)
        return self._found

    def _search(self) -> Iterator[Watched]:
        for folder in self.folders:
            for path, started in _runs(str(folder), DEPTH):
                name = os.path.relpath(path, folder)
                name = folder.resolve().name if name == "." else name
                digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:10]
                slug = re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-")
                yield Watched(f"{slug}-{digest}".lstrip("-"), name, Run(Path(path)), started)


def _runs(folder: str, depth: int) -> Iterator[tuple[str, int]]:
    """This run folder, or those inside, and when its settings were written, in ns.

    They are strings, which take a fifth of the time of paths.
    """
    with suppress(OSError):
        found = os.stat(f"{folder}/config.yaml")  # noqa: PTH116
        if stat.S_ISREG(found.st_mode):
            yield folder, found.st_mtime_ns
            return
    folders = []
    if depth:
        with suppress(OSError), os.scandir(folder) as entries:
            folders = [each.path for each in entries if not each.name.startswith(".") and each.is_dir()]
    for path in folders:
        yield from _runs(path, depth - 1)


def fingerprint(run: Run) -> tuple[Mark | None, ...]:
    """A value that changes whenever a page about the run would."""
    logs = (run.metrics, run.timing, run.evaluations, run.evaluation)
    return tuple(map(mark, (run.config, run.env, *logs, run.path / "samples")))


class Summary(NamedTuple):
    """A run in a few figures."""

    config: dict[Any, Any]
    progress: Progress
    speed: float
    """Images a second, lately; 0 if unknown."""
    written: float
    """When the run last wrote its log or settings, in seconds since 1970; 0 if never."""
    state: State
    diverged: bool = False
    """Whether the run ended because a loss was not finite."""

    @property
    def seconds_left(self) -> float:
        """Seconds until a run that trains is done; 0 if unknown."""
        more = self.progress.total - self.progress.images
        return more / self.speed if self.speed and more > 0 and self.state == "training" else 0.0

    @property
    def age(self) -> float:
        """Seconds since the run last wrote, at least 1."""
        return max(1.0, time.time() - self.written)

    @property
    def too_new(self) -> str:
        """Why the run cannot be read, if a later version of twofold wrote it; else empty."""
        version = self.config.get("format", FORMAT)
        if isinstance(version, int) and version <= FORMAT:
            return ""
        return f"This run has format {version}; this twofold reads up to {FORMAT}. Update twofold to see it."


def summarise(run: Run) -> Summary:
    """Read only a run's settings and the ends of its logs."""
    config, last = as_dict(parsed(run.config, as_yaml)), _last_report(run.metrics, mark(run.metrics))
    speed = max(0.0, number(_last_report(run.timing, mark(run.timing)).get("images_per_s")) or 0.0)
    done, written = progress(config, last), last_written(run)
    silence, locked = time.time() - written, is_locked(run.lock)
    now = state(config, done, speed, silence, locked)
    return Summary(config, done, speed, written, now, diverged=now == "stopped" and "not_finite" in last)


def last_written(run: Run) -> float:
    marks = (mark(path) for path in (run.metrics, run.config))
    return max((each[2] / 1e9 for each in marks if each), default=0.0)


@lru_cache(maxsize=4096)
def _last_report(log: Path, mark: Mark | None) -> dict[str, Any]:
    row = (last_row(log) if mark else None) or {}
    return row if number(row.get("images")) is not None else {}


def state(
    config: dict[Any, Any], done: Progress, speed: float, silence: float, locked: bool | None = None
) -> State:
    """What a run is doing that last wrote `silence` seconds ago.

    Args:
        locked: whether a process holds the run's lock; None if that is not known, and the state a guess.
    """
    if (done.total and done.images >= done.total) or (done.epochs and done.epoch >= done.epochs):
        return "finished"
    if locked is False:
        return "stopped"
    report_every = number(room(config, "training").get("report_every")) or 0
    usual = report_every / speed if speed else 0.0
    if silence > max(QUIET_AFTER, 5 * usual):
        return "quiet"
    return "training" if done.images else "starting"
