"""Exporters of the run's reports to other programs, from the rows of metrics.jsonl and timing.jsonl.

When a run starts or resumes, each target is brought in line with those logs as far as it allows.
"""

import csv
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from twofold.errors import TwofoldError, UsageError
from twofold.files import replacing, write_atomically
from twofold.read_untrusted import mapping
from twofold.runs import Notify, Run, read_lines
from twofold.training.settings import LogName

Values = dict[str, float]
"""One report, flat: "images", "epoch", "lr", "losses/gan_ab", "images_per_s", "waiting", "seconds"."""


class Exporter:
    """Where the reports go besides the run's own logs."""

    reported = -1
    """Image count of the last report that the target holds. A start sends every report again; it takes the later ones."""

    def report(self, values: Values) -> None:
        """Take one report."""

    def picture(self, images: int, direction: str, picture: Image.Image) -> None:
        """Take a sample grid."""

    def flush(self) -> None:
        """Make everything durable: a state that the run may resume from is about to be saved."""

    def close(self) -> None:
        """End: the run has ended or stopped."""


class Csv(Exporter):
    """RUN/metrics.csv, one row a report; rewritten at each start, and when a loss needs a new column."""

    def __init__(self, run: Run) -> None:
        self.path, self.rows, self.columns = run.path / "metrics.csv", list[Values](), list[str]()

    def report(self, values: Values) -> None:
        self.rows.append(values)
        if set(values) <= set(self.columns):
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(values)
            return
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with replacing(self.path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)


class TensorBoard(Exporter):
    """RUN/tensorboard: curves and sample grids over images seen.

    Reports written after the state that a run resumes from are purged: TensorBoard then hides them.
    """

    def __init__(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.path / "tensorboard"
        if folder.is_dir():
            self.reported = max((int(row["images"]) for row in reports(run)), default=-1)
        self.writer = SummaryWriter(str(folder), purge_step=self.reported + 1)

    def report(self, values: Values) -> None:
        if (images := int(values["images"])) > self.reported:
            for name in values.keys() - {"images"}:
                self.writer.add_scalar(name, values[name], images)

    def picture(self, images: int, direction: str, picture: Image.Image) -> None:
        self.writer.add_image(f"samples/{direction}", np.asarray(picture), images, dataformats="HWC")

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandB(Exporter):
    """A run of Weights & Biases, offline in RUN/wandb unless WANDB_MODE says otherwise; one for all starts.

    An offline run cannot be queried, so RUN/wandb/reported keeps the image count of the last report.
    """

    def __init__(self, run: Run) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # pyright: ignore[reportMissingImports]

        self.picture_of, self.mark = wandb.Image, run.path / "wandb" / "reported"
        self.mark.parent.mkdir(exist_ok=True)
        reported = self.mark.read_text() if self.mark.is_file() else ""
        self.reported = int(reported) if reported.isdigit() else -1
        self.images, self.waiting = 0, dict[str, Any]()
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "twofold"),
            mode=os.environ.get("WANDB_MODE", "offline"),
            id=identity(run),
            name=run.path.resolve().name,
            resume="allow",
            dir=run.path,
            config=mapping(run.config),
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )

    def report(self, values: Values) -> None:
        self._add(int(values["images"]), values)

    def picture(self, images: int, direction: str, picture: Image.Image) -> None:
        self._add(images, {f"samples/{direction}": self.picture_of(picture)})

    def _add(self, images: int, values: dict[str, Any]) -> None:
        """Collect all values of one image count: they make one step, and steps must rise."""
        if images > self.images:
            self.flush()
        self.images = images
        if images > self.reported:
            self.waiting |= values

    def flush(self) -> None:
        if self.waiting:
            self.run.log(self.waiting, step=self.images, commit=True)
            self.reported, self.waiting = self.images, {}
            write_atomically(self.mark, str(self.reported), durable=True)

    def close(self) -> None:
        self.flush()
        self.run.finish()


class MLflow(Exporter):
    """A run of MLflow, in RUN/mlflow unless MLFLOW_TRACKING_URI says otherwise; one for all starts.

    The store says what it holds, and only later reports are added.
    """

    def __init__(self, run: Run) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.metric, home = Metric, (run.path / "mlflow").resolve()
        server = os.environ.get("MLFLOW_TRACKING_URI")
        if not server:
            home.mkdir(exist_ok=True)
        self.client = MlflowClient(server or f"sqlite:///{home / 'mlflow.db'}")
        self.run = self._find(run, None if server else (home / "artifacts").as_uri())
        known = self.client.get_metric_history(self.run, "epoch")
        self.reported = max((metric.step for metric in known), default=-1)
        self.client.update_run(self.run, "RUNNING")
        self.client.log_artifact(self.run, str(run.config))

    def _find(self, run: Run, artifacts: str | None) -> str:
        name, tag = os.environ.get("MLFLOW_EXPERIMENT_NAME", "twofold"), identity(run)
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name, artifacts)
        found = self.client.search_runs([number], f"tags.twofold = '{tag}'")
        if found:
            return found[0].info.run_id
        made = self.client.create_run(number, tags={"twofold": tag}, run_name=run.path.resolve().name)
        return made.info.run_id

    def report(self, values: Values) -> None:
        step, now = int(values["images"]), int(1000 * time.time())
        if step > self.reported:
            rows = [self.metric(name, value, now, step) for name, value in values.items() if name != "images"]
            self.client.log_batch(self.run, rows)

    def picture(self, images: int, direction: str, picture: Image.Image) -> None:
        self.client.log_image(self.run, picture, artifact_file=f"samples/{images:09d}-{direction}.png")

    def close(self) -> None:
        self.client.set_terminated(self.run)


def identity(run: Run) -> str:
    """A name of the run that is the same at each start and differs between runs; from its first start in env.json."""
    first = json.loads(run.env.read_text(encoding="utf-8"))[0]
    return hashlib.sha256(repr(first).encode()).hexdigest()[:16]


EXPORTERS: dict[LogName, Callable[[Run], Exporter]] = {
    "csv": Csv,
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}


class Exporters(Exporter):
    """The targets of a run, each with the reports that the run's logs hold already.

    A target that fails, such as an unreachable server, is printed once; the run goes on without it.

    Raises:
        TwofoldError: a target cannot start, for example because its server does not answer.
    """

    def __init__(self, names: Sequence[LogName], run: Run, notify: Notify) -> None:
        self.targets: dict[LogName, Exporter] = {}
        self.notify = notify
        for name in dict.fromkeys(names):
            try:
                self.targets[name] = EXPORTERS[name](run)
            except Exception as error:  # other packages may raise anything
                raise TwofoldError(f"--log {name} cannot start: {one_line(error)}") from error
        for values in reports(run) if names else ():
            self.report(values)

    def report(self, values: Values) -> None:
        self._send(lambda target: target.report(values))

    def picture(self, images: int, direction: str, picture: Image.Image) -> None:
        self._send(lambda target: target.picture(images, direction, picture))

    def flush(self) -> None:
        self._send(lambda target: target.flush())

    def close(self) -> None:
        self._send(lambda target: target.close())

    def _send(self, action: Callable[[Exporter], None]) -> None:
        for name, target in list(self.targets.items()):
            try:
                action(target)
            except Exception as error:  # other packages may raise anything
                del self.targets[name]
                self.notify(
                    f"--log {name} stopped: {one_line(error)}; the next start sends the missing reports"
                )


def one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


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
