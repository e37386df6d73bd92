"""The run folder: its names, its newest files, and a reader of its logs. Standard library only.

config.yaml      every setting, resolved            data.json     which files, frozen at the first start
env.json         machine and versions, per start    lock          held while a process trains here
metrics.jsonl    losses, one line a report; the same bytes whenever the run is repeated
evaluations.jsonl  figures on held-out images, one line an evaluation; the same bytes as well
timing.jsonl     seconds and images/s of the same reports; differs from repeat to repeat
samples/         000004000-ab.webp: rows of source, translation, and back again
snapshots/       000004000-ab.safetensors: to ship     states/000004000/: to resume
                 best-ab.safetensors: the best so far on held-out images
evaluation.json  what `evaluate` or the demo measured   report.html
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold.errors import UsageError

FORMAT = 1
"""Version of the run folder's layout, kept in config.yaml; a newer one is refused."""

DIRECTIONS = ("ab", "ba")


def stamp(images: int) -> str:
    """The nine-digit image count that names samples, snapshots and states."""
    return f"{images:09d}"


@dataclass(frozen=True)
class Run:
    """Names inside one run folder. Nothing is created or read until asked."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def env(self) -> Path:
        return self.path / "env.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations.jsonl"

    @property
    def timing(self) -> Path:
        return self.path / "timing.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    def sample(self, images: int, direction: str) -> Path:
        return self.path / "samples" / f"{stamp(images)}-{direction}.webp"

    def snapshot(self, images: int, direction: str) -> Path:
        return self.path / "snapshots" / f"{stamp(images)}-{direction}.safetensors"

    def best(self, direction: str) -> Path:
        return self.path / "snapshots" / f"best-{direction}.safetensors"

    def state(self, images: int) -> Path:
        return self.path / "states" / stamp(images)

    def samples(self, direction: str) -> list[tuple[int, Path]]:
        """(images, file) of every sample grid of one direction, oldest first."""
        return _numbered(self.path / "samples", rf"(\d{{9,}})-{direction}\.webp")

    def snapshots(self, direction: str) -> list[tuple[int, Path]]:
        """(images, file) of every snapshot of one direction, oldest first."""
        return _numbered(self.path / "snapshots", rf"(\d{{9,}})-{direction}\.safetensors")

    def states(self) -> list[tuple[int, Path]]:
        """(images, folder) of every complete state, oldest first; a half-written one has another name."""
        return _numbered(self.path / "states", r"(\d{9,})")

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.config.is_file()

    def newest_snapshot(self, direction: str) -> Path:
        """The snapshot to translate with.

        Raises:
            UsageError: nothing was saved yet for this direction.
        """
        found = self.snapshots(direction)
        if not found:
            other = [d for d in DIRECTIONS if self.snapshots(d)]
            hint = f"it has --direction {other[0]}" if other else "train it first, or let it reach a snapshot"
            raise UsageError(f"{self.path} holds no {direction} snapshot; {hint}")
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


def _numbered(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    matches = ((re.fullmatch(pattern, entry.name), entry) for entry in folder.iterdir())
    return sorted((int(match[1]), entry) for match, entry in matches if match)


def read_lines(path: Path, newest: int | None = None) -> list[dict[str, Any]]:
    """Every whole JSON line of a log, or of its newest lines, in order.

    A torn last line (a run killed while writing) is left out; a missing file is an empty log.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    rows = []
    for line in lines if newest is None else lines[-newest:]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
