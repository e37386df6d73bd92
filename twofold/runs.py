"""The run folder: its names, its newest files, and a reader of its logs. Standard library only.

config.yaml      every setting, resolved            data.json     which files, frozen at the first start
env.json         machine and versions, per start    lock          held while a process trains here
metrics.jsonl    losses, one line a report; the same bytes whenever the run is repeated
evaluations.jsonl  metrics on held-out images, one line a direction and evaluation; the same bytes as well
timing.jsonl     seconds and images/s of the same reports; differs from repeat to repeat
samples/         000004000-ab.webp: rows of source, translation, and back again
snapshots/       000004000-ab.safetensors: to ship     states/000004000/: to resume
                 best-ab.safetensors, best-ba.safetensors: the best so far on held-out images
evaluations/     000004000-ab-testA-testB-20261128-221500.json: what one `evaluate` or the demo measured, and its
                 picture; evaluation.json of 0.1 is still read     report.html
profile/         000000016.json: a trace of `train --profile`
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any, Protocol, TypeVar

from twofold.errors import UsageError

T = TypeVar("T")

FORMAT = 1
"""Version of the run folder's layout, kept in config.yaml; a newer one is refused."""

DIRECTIONS = ("ab", "ba")

Notify = Callable[[str], None]
"""Receives each line that the user should read."""


class Track(Protocol):
    """Passes on the items of an iterator and shows the progress: of `total` (None: not known), `done` are done before."""

    def __call__(self, items: Iterator[T], total: int | None, what: str, done: int = 0, /) -> Iterator[T]: ...


def untracked(items: Iterator[T], _total: int | None, _what: str, _done: int = 0, /) -> Iterator[T]:
    """A `Track` that shows nothing."""
    return items


def stamp(images: int) -> str:
    """The nine-digit image count that names samples, snapshots and states."""
    return f"{images:09d}"


class Inside:
    """An attribute of `Run`: the path of this name inside the run folder."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "Run", owner: type) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class Run:
    """Names inside one run folder. Nothing is created or read until asked."""

    path: Path

    config, data, env = Inside("config.yaml"), Inside("data.json"), Inside("env.json")
    metrics, timing = Inside("metrics.jsonl"), Inside("timing.jsonl")
    evaluations = Inside("evaluations.jsonl")
    report, lock = Inside("report.html"), Inside("lock")

    @property
    def quoted(self) -> str:
        """The folder as one word of a shell command."""
        return shlex.quote(str(self.path))

    def sample(self, images: int, direction: str) -> Path:
        return self.path / "samples" / f"{stamp(images)}-{direction}.webp"

    def snapshot(self, images: int, direction: str) -> Path:
        return self.path / "snapshots" / f"{stamp(images)}-{direction}.safetensors"

    def best(self, direction: str) -> Path:
        return self.path / "snapshots" / f"best-{direction}.safetensors"

    def state(self, images: int) -> Path:
        return self.path / "states" / stamp(images)

    def profile(self, images: int) -> Path:
        return self.path / "profile" / f"{stamp(images)}.json"

    def samples(self, direction: str) -> list[tuple[int, Path]]:
        """(images, file) of every sample grid of one direction, oldest first."""
        return _numbered(self.path / "samples", rf"(\d{{9,}})-{direction}\.webp")

    def snapshots(self, direction: str) -> list[tuple[int, Path]]:
        """(images, file) of every snapshot of one direction, oldest first.

        A folder that `twofold import` wrote has one model a direction, ab.safetensors, and no count of images: 0.
        """
        imported = self.path / f"{direction}.safetensors"
        found = _numbered(self.path / "snapshots", rf"(\d{{9,}})-{direction}\.safetensors")
        return found or [(0, imported)] * imported.is_file()

    def states(self) -> list[tuple[int, Path]]:
        """(images, folder) of every complete state, oldest first; a half-written one has another name."""
        return _numbered(self.path / "states", r"(\d{9,})")

    @property
    def evaluation(self) -> Path:
        """The newest file that `evaluate` or the demo wrote; evaluation.json, of 0.1, if there is none."""
        found = (self.path / "evaluations").glob("*.json")
        return max(found, key=_written, default=self.path / "evaluation.json")

    def new_evaluation(self, name: str) -> Path:
        """The JSON file for an evaluation that ends now; no file has this name."""
        stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
        names = chain([stem], (f"{stem}-{number}" for number in count(2)))
        paths = (self.path / "evaluations" / f"{name}.json" for name in names)
        return next(path for path in paths if not path.exists())

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.config.is_file()

    @property
    def recognised(self) -> bool:
        """Whether a run was started here, or at least its snapshots are left."""
        return self.exists or any(self.snapshots(way) for way in DIRECTIONS)

    def newest_snapshot(self, direction: str) -> Path:
        """The snapshot to translate with.

        Raises:
            UsageError: nothing was saved yet for this direction.
        """
        found = self.snapshots(direction)
        if not found:
            other = [d for d in DIRECTIONS if self.snapshots(d)]
            hint = f"train it first: twofold train --resume {self.quoted}"
            if other:
                hint = f"use --direction {other[0]}"
            elif not self.exists:
                hint = "give a run folder, a .safetensors model, or a folder of checkpoints such as latest_net_G_A.pth"
            raise UsageError(f"{self.path} has no snapshot of direction {direction}; {hint}")
        return found[-1][1]

    def best_snapshot(self, direction: str) -> Path:
        """The snapshot that was best on held-out images.

        Raises:
            UsageError: none was chosen.
        """
        if not self.best(direction).is_file():
            raise UsageError(
                f"{self.path} has chosen no best {direction} snapshot; leave out --best for the newest"
            )
        return self.best(direction)


def _written(evaluation: Path) -> tuple[str, int]:
    """The date at the end of the name, and the number among those of one second."""
    found = re.search(r"(\d{8}-\d{6})(?:-(\d+))?$", evaluation.stem)
    return (found[1], int(found[2] or 1)) if found else ("", 0)


def _numbered(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    matches = ((re.fullmatch(pattern, entry.name), entry) for entry in folder.iterdir())
    return sorted((int(match[1]), entry) for match, entry in matches if match)


def read_lines(path: Path, newest: int = 0) -> list[dict[str, Any]]:
    """Every whole JSON line of a log, in order; with `newest`, of so many last lines.

    A torn last line (a run killed while writing) is left out; a missing file is an empty log.
    """
    return _rows(_lines(path)[-newest:])


def read_evenly(path: Path, most: int = 600, together: int = 1) -> list[dict[str, Any]]:
    """At most `most` rows of a log, evenly spaced, in order; the last whole one is among them.

    Of every 2^k groups of lines one is parsed, so that a log that grows keeps the rows it showed.

    Args:
        together: lines of a group, such as those of the two directions.
    """
    lines, stride = _lines(path), 1
    while stride * (most - together) < len(lines):
        stride *= 2
    kept = [line for place, line in enumerate(lines) if place // together % stride == 0]
    rows, last = _rows(kept), _rows(lines[-2:])[-1:]  # the last line may be torn
    return rows if rows[-1:] == last else [*rows, *last]


def last_row(path: Path) -> dict[str, Any] | None:
    """The last whole row of a log, if it has one."""
    return next(reversed(read_lines(path, 2)), None)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return []


def _rows(lines: list[bytes]) -> list[dict[str, Any]]:
    return [row for row in map(_row, lines) if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
