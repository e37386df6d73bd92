"""What a run writes while it trains, and when: metrics, sample grids, models to ship, states, the report."""

import json
import os
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from twofold import distributed
from twofold.data.dataset import Images, ImageStore
from twofold.data.loader import Loader, load_plain_batch
from twofold.errors import TwofoldError
from twofold.evaluation.doctor.examine import data_findings, examine
from twofold.formats.images import to_float
from twofold.networks.layers import Generator
from twofold.networks.registry import describe
from twofold.reporting import exporters, samples
from twofold.reporting.report import write_report
from twofold.runs import Run
from twofold.training import state
from twofold.training.start import Notify, Start
from twofold.training.trainer import Trainer
from twofold.translation import model_file
from twofold.translation.header import Header

if TYPE_CHECKING:
    from twofold.evaluation.heldout import Judge

FIRST_LOOKS = [100 * 2**k for k in range(12)]
"""Image counts of early sample grids, so that one sees within minutes whether it works."""

NOTHING_YET: dict[str, Any] = {"value": None, "images": 0, "since": 0}
"""The best of a run before its first evaluation: the metric, when it was, and how many evaluations ago."""


class Records:
    """Everything below the run folder that grows with the training.

    What it writes depends on image counts alone, never on the clock, so that a resumed run writes the same; the
    clock's own figures stand in timing.jsonl, apart.
    """

    def __init__(
        self,
        run: Run,
        begun: Start,
        trainer: Trainer,
        stores: Images,
        progress: dict[str, Any],
        notify: Notify,
    ) -> None:
        self.run, self.begun, self.trainer, self.stores, self.notify = run, begun, trainer, stores, notify
        self.warned = {found.name for found in data_findings(run)}  # said at the start already
        self.losses: dict[str, float] = progress.get("losses", {})
        self.seconds_before: float = progress.get("seconds", 0.0)
        self.writes = distributed.rank() == 0
        if self.writes:
            cut(run.metrics, progress.get("metrics_bytes", 0))
            cut(run.timing, progress.get("timing_bytes", 0))
            cut(run.evaluations, progress.get("evaluations_bytes", 0))
        self.best: dict[str, Any] = progress.get("best", NOTHING_YET)
        self.ended = False
        self.exporters = exporters.start(begun.config.training.log if self.writes else (), run, notify)

    def close(self) -> None:
        for exporter in self.exporters:
            exporter.close()

    def start_clock(self, loader: Loader) -> None:
        self.loader = loader
        self.started = self.reported = time.perf_counter()
        self.first_images = self.reported_images = self.trainer.images
        self.reported_waiting = loader.waiting

    def after_step(self, before: int) -> None:
        """Write whatever is due between `before` and the images seen now; everything at the end of the run."""
        now, due = self.trainer.images, self.begun.config.training
        evaluation = self.begun.config.evaluation
        last = now >= self.begun.schedule.total
        if (
            evaluation.metric not in ("none", "auto")  # auto: begun before runs judged themselves
            and evaluation.every
            and (last or crossed(before, now, evaluation.every))
        ):
            self.evaluate()
            last = last or distributed.any_rank(over(self.best, evaluation.patience), self.trainer.device)
        self.ended = last
        with state.room_left(self.run.path):
            if last or crossed(before, now, due.report_every):
                self.report()
            if last or crossed(before, now, due.sample_every) or any(before < x <= now for x in FIRST_LOOKS):
                self.sample()
                self.warn()
            if last or crossed(before, now, due.snapshot_every):
                self.snapshot()
            if last and self.writes:
                write_report(self.run)
            if last or crossed(before, now, due.state_every):  # after all the rest, which a kill then repeats
                self.save_state()

    def evaluate(self) -> None:
        """A line of figures on held-out images, and the snapshot if none was better."""
        self.check_finite()
        if not self.writes:
            return
        images, method = self.trainer.images, self.trainer.method
        generator = self.trainer.generator("ab")
        with self.trainer.looking():
            values = self.judge.figures(generator, method.noise)
        value = values[self.judge.metric]
        better = self.judge.better(value, self.best["value"])
        if better:
            self.best = {"value": value, "images": images, "since": 0}
            self.ship(generator, "ab", self.run.best("ab"))
        else:
            self.best = self.best | {"since": self.best["since"] + 1}
        append(self.run.evaluations, {"images": images, "values": values, "best": better})

    @cached_property
    def judge(self) -> "Judge":
        from twofold.evaluation.heldout import Judge

        chosen, a, b = self.begun.config.evaluation, self.stores.held_out_a, self.stores.held_out_b
        sides = [self.side(store, range(min(chosen.images, len(store)))) for store in (a, b)]
        return Judge(
            chosen.metric,
            a,
            b,
            most=chosen.images,
            size=min(sides),
            network=chosen.features,
            device=self.trainer.device,
        )

    def report(self) -> None:
        """One line of metrics and one of timing; the one place that waits for the device."""
        self.check_finite()
        self.losses = {name: float(f"{mean:.6g}") for name, mean in self.trainer.sums.report().items()}
        if not self.writes:
            return
        images = self.trainer.images
        rate = self.begun.schedule.rate(images)
        epoch = round(images / self.begun.files.epoch, 4)
        metrics = {"images": images, "epoch": epoch, "lr": rate, "losses": self.losses}
        append(self.run.metrics, metrics)
        now, waiting = time.perf_counter(), self.loader.waiting
        took = max(now - self.reported, 1e-9)
        timing = {
            "images": images,
            "seconds": round(self.seconds(), 2),
            "images_per_s": round((images - self.reported_images) / took, 3),
            "waiting": round((waiting - self.reported_waiting) / took, 4),
        }
        append(self.run.timing, timing)
        for exporter in self.exporters:
            exporter.report(exporters.flat(metrics, timing))
        self.reported, self.reported_images, self.reported_waiting = now, images, waiting

    def check_finite(self) -> None:
        """Stop a run whose losses are no numbers any more.

        Raises:
            TwofoldError: names the losses, the image count, and where one can go on from.
        """
        broken = self.trainer.sums.broken()
        if broken is None:
            return
        images, names = broken
        if self.writes:  # for the doctor, who is asked next
            append(self.run.metrics, {"images": images, "not_finite": names})
        states = self.run.states()
        last = f"the last good state is at {states[-1][0]}" if states else "no state was saved before"
        raise TwofoldError(
            f"{', '.join(names)} stopped being finite at image {images}; {last}. Start anew with a lower --optim.lr"
            " or --machine.precision float32"
        )

    def sample(self) -> None:
        """A grid of fixed images for each direction, and the report, which shows it."""
        if not self.writes or not self.begun.config.training.samples:
            return
        method, lab = self.trainer.method, self.begun.config.data.lab
        for direction in method.translators:
            back = direction[::-1]
            third = self.trainer.generator(back) if back in method.translators else None
            if third is None and self.begun.files.paired:
                third = list(to_float(self.fixed[back]))  # the right answers
            sources, there = (
                to_float(self.fixed[direction].to(self.trainer.device)),
                self.trainer.generator(direction),
            )
            with self.trainer.looking():
                grid = samples.grid(sources, there, third, noise=method.noise, lab=lab)
            samples.write(grid, self.run.sample(self.trainer.images, direction))
            for exporter in self.exporters:
                exporter.picture(self.trainer.images, direction, grid)
        write_report(self.run)

    def warn(self) -> None:
        """Say what the doctor finds, each thing once; a run stopped and resumed hears it again."""
        for found in examine(self.run) if self.writes else []:
            if found.name not in self.warned:
                self.warned.add(found.name)
                self.notify(f"{found.severity}: {found.sentence} {found.advice}")

    @cached_property
    def fixed(self) -> dict[str, Tensor]:
        """The images that every grid shows, uint8 (N, C, size, size); held-out ones where there are."""
        config, stores = self.begun.config, self.stores
        sides = {"ab": stores.held_out_a or stores.a, "ba": stores.held_out_b or stores.b}
        numbers = {way: range(min(config.training.samples, len(store))) for way, store in sides.items()}
        return {
            way: load_plain_batch(store, numbers[way], self.side(store, numbers[way]))
            for way, store in sides.items()
        }

    def side(self, store: ImageStore, numbers: range) -> int:
        """The largest square in these images up to the training size: whole images can be smaller."""
        least = min((min(store[i].shape[:2]) for i in numbers), default=self.begun.config.data.size)
        multiple = self.begun.files.multiple_of
        return min(self.begun.config.data.size, least // multiple * multiple)

    def snapshot(self) -> None:
        """The generators as they ship."""
        self.check_finite()
        if not self.writes:
            return
        for direction in self.trainer.method.translators:
            generator = self.trainer.generator(direction)
            self.ship(generator, direction, self.run.snapshot(self.trainer.images, direction))

    def ship(self, generator: Generator, direction: str, path: Path) -> None:
        """Write a model file."""
        config = self.begun.config
        size = None if config.data.resize in ("crop", "none") else config.data.size
        origin = {"method": config.method, "images": self.trainer.images}
        labels = config.data.labels_a if direction == "ab" else config.data.labels_b
        header = Header(
            describe(generator),
            direction,
            size,
            origin,
            noise=self.trainer.method.noise,
            lab=config.data.lab,
            labels=bool(labels),
        )
        model_file.save(generator, header, path)

    def save_state(self) -> None:
        """All that resuming needs."""
        self.check_finite()
        for exporter in self.exporters:
            exporter.flush()
        progress = {
            "metrics_bytes": settled(self.run.metrics),
            "timing_bytes": settled(self.run.timing),
            "evaluations_bytes": settled(self.run.evaluations),
            "best": self.best,
            "losses": self.losses,
            "seconds": round(self.seconds(), 2),
        }
        state.save(self.run, self.trainer, progress)

    def seconds(self) -> float:
        """Seconds spent training, over all starts."""
        return self.seconds_before + time.perf_counter() - self.started

    def rate(self) -> float:
        """Images per second since this start."""
        return (self.trainer.images - self.first_images) / max(time.perf_counter() - self.started, 1e-9)


def over(best: dict[str, Any], patience: int | None) -> bool:
    """Whether a run ends early: so many evaluations have passed since the best one."""
    return patience is not None and best["since"] >= patience


def crossed(before: int, now: int, every: int | None) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return every is not None and before // every < now // every


def cut(path: Path, size: int) -> None:
    """Cut a log back to `size` bytes: what came after the state that the run goes on from never happened."""
    if path.is_file() and length(path) > size:
        os.truncate(path, size)


def length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def settled(path: Path) -> int:
    """The length of a log, made durable first."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return length(path)


def append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
