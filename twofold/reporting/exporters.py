"""Exporters of the run's reports to other programs, from the rows of metrics.jsonl and timing.jsonl.

When a run starts or resumes, each target is brought in line with those logs as far as it allows.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from twofold.errors import TwofoldError, UsageError
from twofold.files import replacing
from twofold.reporting.trackers import Exporter, MLflow, Values, WandB
from twofold.runs import Notify, Run, read_lines
from twofold.training.settings import LogName


class Csv(Exporter):
    """RUN/metrics.csv, one row a report; rewritten at each start, and when a loss needs a new column."""

    def __init__(self, run: Run, before: Sequence[Values]) -> None:
        self.path, self.rows = run.path / "metrics.csv", list(before)
        self.columns: list[str] = []
        self._write_all()

    def report(self, values: Values) -> None:
        self.rows.append(values)
        if set(values) <= set(self.columns):
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(values)
        else:
            self._write_all()

    def _write_all(self) -> None:
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with replacing(self.path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)


class TensorBoard(Exporter):
    """RUN/tensorboard: curves and sample grids over images seen.

    Reports written after the state that a run resumes from are purged: TensorBoard then hides them.
    """

    def __init__(self, run: Run, before: Sequence[Values]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.path / "tensorboard"
        known = folder.is_dir()
        start = int(before[-1]["images"]) + 1 if before else 0
        self.writer = SummaryWriter(str(folder), purge_step=start if known else None)
        for values in [] if known else before:
            self.report(values)

    def report(self, values: Values) -> None:
        for name, value in values.items():
            if name != "images":
                self.writer.add_scalar(name, value, int(values["images"]))

    def picture(self, images: int, direction: str, picture: Image.Image) -> None:
        self.writer.add_image(f"samples/{direction}", np.asarray(picture), images, dataformats="HWC")

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Guarded(Exporter):
    """A target that may fail, such as an unreachable server: printed once; the run goes on without the target."""

    def __init__(self, name: LogName, target: Exporter, notify: Notify) -> None:
        self.name, self.target, self.notify = name, target, notify
        self.failed = False

    def report(self, values: Values) -> None:
        self._try(lambda: self.target.report(values))

    def picture(self, images: int, direction: str, picture: Image.Image) -> None:
        self._try(lambda: self.target.picture(images, direction, picture))

    def flush(self) -> None:
        self._try(self.target.flush)

    def close(self) -> None:
        self._try(self.target.close)

    def _try(self, action: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            action()
        except Exception as error:  # other packages may raise anything
            self.failed = True
            self.notify(
                f"--log {self.name} stopped: {one_line(error)}; the next start sends the missing reports"
            )


def one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


EXPORTERS: dict[LogName, Callable[[Run, Sequence[Values]], Exporter]] = {
    "csv": Csv,
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}


def check(names: Sequence[LogName]) -> None:
    """Refuse a target whose package is not installed, before anything is written.

    Raises:
        UsageError: names the extra that installs it.
    """
    for name in names:
        if name != "csv" and find_spec(name) is None:
            raise UsageError(
                f"--log {name} needs a package that is not installed: pip install 'twofold[{name}]'"
            )


def start(names: Sequence[LogName], run: Run, notify: Notify) -> list[Exporter]:
    """The targets, each with the reports that the run's logs hold already.

    Raises:
        TwofoldError: a target cannot start, for example because its server does not answer.
    """
    before = list(reports(run)) if names else []
    found: list[Exporter] = []
    for name in dict.fromkeys(names):
        try:
            found.append(Guarded(name, EXPORTERS[name](run, before), notify))
        except Exception as error:  # other packages may raise anything
            raise TwofoldError(f"--log {name} cannot start: {one_line(error)}") from error
    return found


def catch_up(names: Sequence[LogName], run: Run, notify: Notify) -> None:
    """Send all reports of a finished run to targets that were requested afterwards."""
    for exporter in start(names, run, notify):
        exporter.close()


def reports(run: Run) -> Iterator[Values]:
    """Every report of the run's logs."""
    timing = {row.get("images"): row for row in read_lines(run.timing)}
    for row in read_lines(run.metrics):
        if "losses" in row:
            yield flat(row, timing.get(row["images"], {}))


def flat(metrics: dict[str, Any], timing: dict[str, Any]) -> Values:
    """A line of each log as one row."""
    losses = {f"losses/{name}": value for name, value in metrics["losses"].items()}
    return {key: metrics[key] for key in ("images", "epoch", "lr")} | losses | timing
