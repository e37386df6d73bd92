"""Exporters to Weights & Biases and to MLflow, on this machine unless their environment variables say otherwise."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from PIL import Image

from twofold.files import write_atomically
from twofold.read_untrusted import mapping
from twofold.runs import Run

Values = dict[str, float]
"""One report, flat: "images", "epoch", "lr", "losses/gan_ab", "images_per_s", "waiting", "seconds"."""


class Exporter:
    """Where the reports go besides the run's own logs."""

    def report(self, values: Values) -> None:
        """Take one report."""

    def picture(self, images: int, direction: str, picture: Image.Image) -> None:
        """Take a sample grid."""

    def flush(self) -> None:
        """Make everything durable: a state that the run may resume from is about to be saved."""

    def close(self) -> None:
        """End: the run has ended or stopped."""


class WandB(Exporter):
    """A run of Weights & Biases, offline in RUN/wandb unless WANDB_MODE says otherwise; one for all starts.

    An offline run cannot be queried, so RUN/wandb/reported keeps the image count of the last report.
    """

    def __init__(self, run: Run, before: Sequence[Values]) -> None:
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
        for values in before:
            self.report(values)

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

    def __init__(self, run: Run, before: Sequence[Values]) -> None:
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
        for values in before:
            self.report(values)

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
