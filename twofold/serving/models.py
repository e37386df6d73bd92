"""The models that a server offers: their names, directions and snapshots, loaded when they are first needed."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from twofold.errors import TwofoldError
from twofold.exchange.folder import find_generators
from twofold.exchange.load import is_foreign
from twofold.formats import images
from twofold.read_untrusted import Mark, mark
from twofold.runs import DIRECTIONS, Run
from twofold.translation.header import Header, is_model, read_header
from twofold.translation.sources import FORMATS, LOSSY
from twofold.translation.translator import Translator

KEPT = 4
"""Networks in memory, at most; the one that was used least recently goes."""


class Snapshot(NamedTuple):
    """One network of a model: what to load, its direction, and its name in an answer."""

    path: Path
    direction: str | None
    label: str


class UnknownError(TwofoldError):
    """There is no such model, direction or snapshot."""


class Default(NamedTuple):
    """The network of a direction that is used if a request names no snapshot.

    Attributes:
        images: that a run's snapshot had seen; None for a file or a checkpoint.
        path: the file, or the folder of a checkpoint.
        header: of the network.
    """

    images: int | None
    path: Path
    header: Header


class Model:
    """What the user named: a run, a model file or a checkpoint; `name` is its name in requests."""

    def __init__(self, name: str, run: Run | None = None) -> None:
        self.name, self.run = name, run
        self.defaults: dict[str, Default] = {}

    @property
    def directions(self) -> list[str]:
        """The directions that can be requested now."""
        return [*self.defaults]

    def unused(self) -> Iterator[tuple[str, Default]]:
        """Each direction's newest snapshot, where that is not the default one."""
        for way, (count, file) in newest_of(self.run).items() if self.run else ():
            if way not in self.defaults or self.defaults[way].images != count:
                yield way, Default(count, file, read_header(file))

    def use(self, direction: str, default: Default) -> None:
        """Make a network the default one of its direction."""
        known = self.defaults | {direction: default}
        self.defaults = {way: known[way] for way in DIRECTIONS if way in known}

    def snapshot(self, direction: str | None, chosen: str | None) -> Snapshot:
        """The network that a request means.

        Args:
            direction: None for the first one; there must be one.
            chosen: "best", a number of images, or None for the newest.

        Raises:
            UnknownError: the model has no such direction or snapshot.
        """
        direction = direction or self.directions[0]
        if direction not in self.defaults:
            have = " and ".join(self.directions)
            raise UnknownError(f"{self.name} has no direction {direction}; it has {have}")
        if chosen is not None:
            return self._chosen_snapshot(direction, chosen)
        default = self.defaults[direction]
        if default.images is not None:
            return Snapshot(default.path, direction, str(default.images))
        return Snapshot(default.path, direction if default.path.is_dir() else None, "")

    def _chosen_snapshot(self, direction: str, chosen: str) -> Snapshot:
        if self.run is None:
            raise UnknownError(f"{self.name} is a model file, which has no snapshots; leave out snapshot")
        if chosen == "best":
            if not self.run.best(direction).is_file():
                raise UnknownError(f"{self.name} has chosen no best {direction} snapshot; leave out snapshot")
            return Snapshot(self.run.best(direction), direction, "best")
        files = {str(count): file for count, file in self.run.snapshots(direction)}
        if chosen not in files:
            raise UnknownError(
                f"{self.name} has no {direction} snapshot {chosen}; it has {', '.join([*files][-5:])} or best"
            )
        return Snapshot(files[chosen], direction, chosen)

    def describe(self) -> dict[str, Any]:
        """The answer to `GET /models`."""
        return {
            "name": self.name,
            "ready": bool(self.directions),
            "directions": [self._describe(direction) for direction in self.directions],
        }

    def _describe(self, direction: str) -> dict[str, Any]:
        (newest, _, header), run = self.defaults[direction], self.run
        source, target = (
            {"dtype": each.dtype, "channels": each.channels, "labels": each.is_labels}
            for each in (header.source_contract, header.target_contract)
        )
        return {
            "direction": direction,
            "source": source,
            "target": target,
            "formats": formats_for(header),
            "newest": newest,
            "snapshots": [count for count, _ in run.snapshots(direction)] if run else [],
            "best": run.best(direction).is_file() if run else False,
            "samples": [count for count, _ in run.samples(direction)] if run else [],
        }


def newest_of(run: Run) -> dict[str, tuple[int, Path]]:
    """Images and file of the newest snapshot of each direction that has one."""
    return {way: found[-1] for way in DIRECTIONS if (found := run.snapshots(way))}


def formats_for(header: Header) -> list[str]:
    """Formats that hold the results of a model, the default one first."""
    target = header.target_contract
    held = [name for name in FORMATS if images.holds(f".{name}", target.dtype, target.channels)]
    if target.labels:
        held = [name for name in held if f".{name}" not in LOSSY]
    best = images.best_suffix(target.dtype, target.channels).removeprefix(".")
    return [best, *(name for name in held if name != best)]


def open_models(paths: Sequence[Path], *, follow: bool, loader: "Loader") -> dict[str, Model]:
    """The models by their names: the last part of each path, with a number where that is taken.

    Args:
        follow: a run without snapshots is taken, and offers nothing until it has one.

    Raises:
        UsageError: a path does not exist or holds no model.
        TwofoldError: a model cannot be read.
    """
    models: dict[str, Model] = {}
    for path in paths:
        stem = (path.stem if path.is_file() else path.resolve().name) or "model"
        names = [stem, *(f"{stem}-{number}" for number in range(2, len(paths) + 1))]
        name = next(name for name in names if name not in models)
        models[name] = open_model(name, path, follow=follow, loader=loader)
    return models


def open_model(name: str, path: Path, *, follow: bool, loader: "Loader") -> Model:
    run = Run(path)
    if run.exists or newest_of(run):
        model = Model(name, run)
        for direction, newest in model.unused():
            model.use(direction, newest)
        if not model.directions and not follow:
            run.newest_snapshot("ab")  # says what to do
        return model
    if path.is_dir() and not is_foreign(path):
        run.newest_snapshot("ab")
    if path.is_file() and is_model(path):
        headers = [read_header(path)]
    else:
        ways = [*find_generators(path).files] if path.is_dir() else [None]
        headers = [loader.load(Snapshot(path, way, "")).header for way in ways]
    model = Model(name)
    for header in headers:
        model.use(header.direction, Default(None, path, header))
    return model


class Loader:
    """Loads networks in one thread, and keeps the few that were used last.

    Args:
        open: makes a translator of a path and a direction, as `twofold.exchange.load.load` does.
    """

    def __init__(self, open: Callable[..., Translator]) -> None:
        self._open = open
        self._kept: OrderedDict[tuple[Path, str | None, Mark | None], Translator] = OrderedDict()
        self._lock = threading.Lock()
        threads = torch.get_num_threads()  # of the sessions that other backends make
        self.thread = ThreadPoolExecutor(1, "twofold-load", torch.set_num_threads, (threads,))

    def kept(self, snapshot: Snapshot) -> Translator | None:
        """The translator, if it is in memory and its file has not changed."""
        key = (*snapshot[:2], mark(snapshot.path))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def load(self, snapshot: Snapshot) -> Translator:
        """The translator, loaded if need be."""
        translator = self.kept(snapshot)
        if translator is None:
            key = (*snapshot[:2], mark(snapshot.path))
            translator = self._open(snapshot.path, direction=snapshot.direction)
            with self._lock:
                self._kept[key] = translator
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return translator
