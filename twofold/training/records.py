"""Everything that a run writes while it trains, and when: metrics, sample grids, snapshots, states, the report."""

import json
import os
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from twofold import distributed
from twofold.data.dataset import Images, ImageStore
from twofold.data.loader import Loader, load_plain_batch
from twofold.errors import TwofoldError
from twofold.evaluation.doctor.examine import data_findings, examine
from twofold.evaluation.heldout import NO_EVALUATION, Best, Judge, judging_network
from twofold.files import explained_full_disk, sync
from twofold.formats.contract import Contract
from twofold.formats.display import View
from twofold.formats.values import to_network
from twofold.networks.layers import Generator
from twofold.networks.registry import describe
from twofold.reporting import samples
from twofold.reporting.exporters import Exporters, flat
from twofold.reporting.report import write_report
from twofold.runs import Notify, Run
from twofold.training import state
from twofold.training.callbacks import Callbacks
from twofold.training.pretrained import Origins
from twofold.training.start import Start
from twofold.training.trainer import Trainer
from twofold.translation import model_file
from twofold.translation.header import Header

EARLY_SAMPLES = [100 * 2**k for k in range(12)]
"""Image counts of early sample grids, so that one sees within minutes whether the run works."""


class Records:
    """Writes everything in the run folder that grows during the run.

    All of it depends on image counts alone, never on the clock, so that a resumed run writes the same. Only
    timing.jsonl holds times.

    Args:
        progress: of the state that the run resumes from; empty for a new run.
        callbacks: called on the first process, each after its file is written.
    """

    def __init__(
        self,
        run: Run,
        started: Start,
        trainer: Trainer,
        images: Images,
        progress: dict[str, Any],
        notify: Notify,
        callbacks: Callbacks,
    ) -> None:
        self.run, self.trainer, self.images, self.notify = run, trainer, images, notify
        self.callbacks = callbacks
        self.config, self.manifest, self.schedule = started
        self.warned = {found.name for found in data_findings(run)}  # printed at the start already
        self.losses: dict[str, float] = progress.get("losses", {})
        self.seconds_before: float = progress.get("seconds", 0.0)
        self.best = best_of(progress)
        self.origins: Origins = progress.get("start_from", {})
        self.writes, self.ended = distributed.rank() == 0, False
        self.logs = {"metrics": run.metrics, "timing": run.timing, "evaluations": run.evaluations}
        if self.writes:
            for name, log in self.logs.items():
                cut(log, progress.get(f"{name}_bytes", 0))
        self.exporters = Exporters(self.config.training.log if self.writes else (), run, notify)

    def start_clock(self, loader: Loader) -> None:
        self.loader = loader
        self.started = self.reported = time.perf_counter()
        self.first_images = self.reported_images = self.trainer.images
        self.reported_waiting = loader.waiting

    def after_step(self, before: int) -> None:
        """Write everything due between `before` and the images seen now; at the end of the run, everything."""
        now, training, evaluation = self.trainer.images, self.config.training, self.config.evaluation
        last = now >= self.schedule.total

        def due(every: int | None) -> bool:
            return last or (every is not None and before // every < now // every)

        measured = evaluation.metric not in ("none", "auto")  # auto: a run older than held-out evaluation
        if measured and evaluation.every and due(evaluation.every):
            self.evaluate()
            stop = out_of_patience(self.best, evaluation.patience)
            last = last or distributed.any_rank(stop)
        self.ended = last
        if last:
            self.name_lost_structure()
        with explained_full_disk(self.run.path):
            if due(training.report_every):
                self.report()
            if due(training.sample_every) or any(before < x <= now for x in EARLY_SAMPLES):
                self.sample()
                self.warn()
            if due(training.snapshot_every):
                self.snapshot()
            if last and self.writes:
                write_report(self.run)
            if due(training.state_every):  # last of all: after a kill the rest is repeated
                self.save_state()

    def evaluate(self) -> None:
        """Append the metrics of each direction on held-out images, and save its snapshot if it is the best."""
        self.check_finite()
        if not self.writes:
            return
        for direction, judge in self.judges.items():
            generator = self.trainer.generator(direction)
            with self.trainer.uncompiled():
                values, intervals = judge.measure(generator, self.trainer.method.noise)
            best = self.best.get(direction, NO_EVALUATION)
            better = judge.better(values, best)
            if better:
                value, kept = values[judge.metric], judge.keeps_structure(values)
                best = {"value": value, "images": self.trainer.images, "since": 0, "kept": kept}
                model_file.save(generator, self.header(generator, direction), self.run.best(direction))
            else:
                best = best | {"since": best["since"] + 1}
            self.best[direction] = best
            row = {"images": self.trainer.images, "direction": direction, "values": values, "best": better}
            append(self.run.evaluations, row | ({"intervals": intervals} if intervals else {}))

    def name_lost_structure(self) -> None:
        """Say which best snapshots were chosen although no evaluated one kept the structure of its sources."""
        for direction, best in self.best.items():
            if best["value"] is not None and not best.get("kept", True):
                self.notify(
                    f"best-{direction}: no evaluated snapshot keeps the edges of its source, so the lowest"
                    f" {self.config.evaluation.metric.upper()} of all was chosen; compare the sample images"
                    " (--evaluation.structure is the limit)"
                )

    @cached_property
    def judges(self) -> dict[str, Judge]:
        chosen, data, device = self.config.evaluation, self.config.data, self.trainer.device
        a, b = self.images.held_out_a, self.images.held_out_b
        sides = [self.largest_crop(store, range(min(chosen.images, len(store)))) for store in (a, b)]
        network = judging_network(chosen, device)
        ways = {"ab": (a, b, data.show_b), "ba": (b, a, data.show_a)}
        return {
            way: Judge(chosen, source, target, min(sides), device, network, shown)
            for way, (source, target, shown) in ways.items()
            if way in self.trainer.method.translators
        }

    def report(self) -> None:
        """Append one line of metrics and one of timing; waits for the device."""
        self.check_finite()
        self.losses = {name: float(f"{mean:.6g}") for name, mean in self.trainer.sums.report().items()}
        if not self.writes:
            return
        images = self.trainer.images
        epoch, rate = round(images / self.manifest.epoch, 4), self.schedule.rate(images)
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
        self.exporters.report(flat(metrics, timing))
        self.callbacks.report(metrics | timing)
        self.reported, self.reported_images, self.reported_waiting = now, images, waiting

    def check_finite(self) -> None:
        """Stop a run whose losses are not finite.

        Raises:
            TwofoldError: names the losses, the image count, and the state to resume from.
        """
        broken = self.trainer.sums.broken()
        if broken is None:
            return
        images, names = broken
        if self.writes:  # for the doctor
            append(self.run.metrics, {"images": images, "not_finite": names})
        states = self.run.states()
        last = f"the last good state is at {states[-1][0]}" if states else "no state was saved before"
        raise TwofoldError(
            f"{', '.join(names)} stopped being finite at image {images}; {last}. Start a new run with a lower"
            " --lr or --machine.precision float32"
        )

    def sample(self) -> None:
        """A grid of fixed images for each direction, and the report, which shows it."""
        if not self.writes or not self.config.training.samples:
            return
        method, data = self.trainer.method, self.config.data
        a, b = View(self.images.a.contract, data.show_a), View(self.images.b.contract, data.show_b)
        for direction in method.translators:
            back, views = direction[::-1], (a, b) if direction == "ab" else (b, a)
            third = self.trainer.generator(back) if back in method.translators else None
            if third is None and self.manifest.paired:
                third = list(to_network(self.sample_images[back], views[1].contract))  # the ground truth
            sources = to_network(self.sample_images[direction], views[0].contract).to(self.trainer.device)
            generator = self.trainer.generator(direction)
            with self.trainer.uncompiled():
                grid = samples.grid(sources, generator, third, noise=method.noise, lab=data.lab, views=views)
            file = self.run.sample(self.trainer.images, direction)
            samples.write(grid, file)
            self.callbacks.sample(self.trainer.images, direction, file)
            self.exporters.picture(self.trainer.images, direction, grid)
        write_report(self.run)

    def warn(self) -> None:
        """Print the doctor's findings, each once for each start."""
        for found in examine(self.run) if self.writes else []:
            if found.name not in self.warned:
                self.warned.add(found.name)
                self.notify(f"{found.severity}: {found.sentence} {found.advice}")

    @cached_property
    def sample_images(self) -> dict[str, Tensor]:
        """The images of every grid as stored, (N, C, size, size), by direction; held-out ones where there are."""
        count, found = self.config.training.samples, {}
        stores = {
            "ab": self.images.held_out_a or self.images.a,
            "ba": self.images.held_out_b or self.images.b,
        }
        for direction, store in stores.items():
            numbers = range(min(count, len(store)))
            found[direction] = load_plain_batch(store, numbers, self.largest_crop(store, numbers))
        return found

    def largest_crop(self, store: ImageStore, numbers: range) -> int:
        """Side of the largest square in these images, up to the training size: whole images can be smaller."""
        size, multiple = self.config.data.size, self.manifest.multiple_of
        least = min((min(store[i].shape[:2]) for i in numbers), default=size)
        return min(size, least // multiple * multiple)

    def snapshot(self) -> None:
        self.check_finite()
        if not self.writes:
            return
        for direction in self.trainer.method.translators:
            generator = self.trainer.generator(direction)
            file = self.run.snapshot(self.trainer.images, direction)
            model_file.save(generator, self.header(generator, direction), file)
            self.callbacks.snapshot(self.trainer.images, direction, file)

    def header(self, generator: Generator, direction: str) -> Header:
        """The header of a model file, in format 1 for a run that 0.1 started, so that all its models work alike."""
        data, manifest = self.config.data, self.manifest
        source, target = (manifest.a, manifest.b) if direction == "ab" else (manifest.b, manifest.a)
        origin: dict[str, Any] = {"method": self.config.method, "images": self.trainer.images}
        if direction in self.origins:
            origin["start_from"] = self.origins[direction]
        network = describe(generator)
        facts: dict[str, Any] = {"origin": origin, "noise": self.trainer.method.noise, "lab": data.lab}
        if manifest.geometry is None:
            size = None if data.resize in ("crop", "none") else data.size
            return Header(network, direction, size, labels=source.labels, **facts)
        a, b = (Contract(icc=each.contract.icc) if data.lab else each.contract for each in (source, target))
        facts |= {"labels": source.labels and source.contract.labels is None, "layout": data.layout}
        return Header.of(network, direction, a, b, manifest.geometry, **facts)

    def save_state(self) -> None:
        self.check_finite()
        self.exporters.flush()
        progress: dict[str, Any] = {f"{name}_bytes": durable_length(log) for name, log in self.logs.items()}
        progress |= {"start_from": self.origins} if self.origins else {}
        progress |= {"best": self.best, "losses": self.losses, "seconds": round(self.seconds(), 2)}
        with explained_full_disk(self.run.path):
            state.save(self.run, self.trainer, progress)

    def seconds(self) -> float:
        """Seconds of training, over all starts."""
        return self.seconds_before + time.perf_counter() - self.started

    def rate(self) -> float:
        """Images per second since this start."""
        return (self.trainer.images - self.first_images) / max(time.perf_counter() - self.started, 1e-9)


def best_of(progress: dict[str, Any]) -> dict[str, Best]:
    """The best evaluation of each direction in a state; states of 0.1 have that of A to B alone."""
    best = progress.get("best", {})
    return {"ab": NO_EVALUATION | best} if "value" in best else dict(best)


def out_of_patience(best: dict[str, Best], patience: int | None) -> bool:
    """Whether a run ends early: in no direction was one of so many last evaluations the best."""
    return patience is not None and bool(best) and min(each["since"] for each in best.values()) >= patience


def cut(log: Path, size: int) -> None:
    """Cut a log back to `size` bytes: the state that the run resumes from is older than the rest."""
    if log.is_file() and log.stat().st_size > size:
        os.truncate(log, size)


def durable_length(log: Path) -> int:
    """The length of a log in bytes, once the disk has all of it."""
    if not log.is_file():
        return 0
    sync(log)
    return log.stat().st_size


def append(log: Path, row: dict[str, Any]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
