"""`twofold demo`: the main job from nothing. Pictures, a training, translations, and figures for what came out."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twofold import config as configs
from twofold.evaluation.evaluate import evaluate, measured
from twofold.evaluation.measures import Shot, against_answers
from twofold.evaluation.subject import Request
from twofold.evaluation.table import Table
from twofold.files import write_atomically
from twofold.formats import images
from twofold.metrics.image import match_histogram
from twofold.presets import layer
from twofold.reporting.report import write_report
from twofold.runs import Run, read_lines
from twofold.seasons import draw as seasons
from twofold.training import train as loop
from twofold.training.train import Watcher
from twofold.translation.translator import Translator

COUNT, SIZE, SEED = 400, 64, 2
"""Pictures of each season to train on, their side in pixels, and the seed of their drawing."""

FEW = 24
QUICK = {"training": {"epochs": 0.2, "decay_epochs": 0.2, "samples": 2}}
"""Few pictures and few steps, for those who only want to see that everything works."""

Uint8 = NDArray[np.uint8]


def demonstrate(out: Path, quick: bool, watcher: Watcher) -> bool:
    """Run the demo in the folder `out`, or go on where an earlier one stopped; whether it is finished."""
    pictures, run = out / "seasons", Run(out / "run")
    if not pictures.is_dir():
        count = FEW if quick else COUNT
        watcher.notify(f"1. drawing {count} summer and {count} winter landscapes, no two of the same place")
        seasons.make(pictures, count, SIZE, SEED, watcher.notify)
    watcher.notify("2. training: summer to winter and back, without ever seeing the same place in both")
    train_a, train_b, val_a, val_b = (pictures / name for name in ("trainA", "trainB", "valA", "valB"))
    said = configs.merge(
        layer("seasons"),
        QUICK if quick else {},
        {"a": train_a, "b": train_b, "data": {"val_a": val_a, "val_b": val_b}},
    )
    if not loop.train(run.path, said, watcher):
        watcher.notify(f"go on:      twofold demo --out {out}")
        return False
    watcher.notify("3. translating summers that were not trained on, and comparing with their true winters")
    translator = Translator.load(run.path)
    for path in images.find(pictures / "testA"):
        images.write(translator.array(images.read(path, 3)), out / "winter" / path.name)
    table = judge(out / "winter", pictures)
    table.summary = " ".join(verdict(table, quick))
    table.picture_in(run.path)
    write_atomically(run.evaluation, table.to_json(), durable=True)
    write_report(run)
    for line in [*lines(table), *verdict(table, quick), "", *what_next(out, run)]:
        watcher.notify(line)
    return True


def judge(translated: Path, pictures: Path) -> Table:
    """The translations, the best change of colours alone, and the untouched summers, against the true winters."""
    measures = ("psnr", "ssim")
    request = Request(translated, pictures / "testA", pictures / "testB", pairs=True, metrics=measures)
    table = evaluate(request, lambda line: None)  # noqa: ARG005
    summers, winters = (read_all(pictures / name) for name in ("testA", "testB"))
    matched = match_histogram(summers, read_all(pictures / "trainA"), read_all(pictures / "trainB"))
    shots = (Shot(i, *images) for i, images in enumerate(zip(summers, matched, winters, strict=True)))
    table.rows.insert(1, measured("colours matched", shots, [against_answers(measures)]))
    table.title = "Summer to winter, against the true winter"
    table.caption = "summer, translated, true winter"
    table.notes = [
        "Means over testA, whose places were not in training. Colours matched: each channel's histogram carried"
        " from all of trainA to all of trainB."
    ]
    return table


def read_all(folder: Path) -> list[Uint8]:
    return [images.read(path, 3) for path in images.find(folder)]


def lines(table: Table) -> list[str]:
    """The figures, in plain columns."""
    header = f"{'against the true winter':<26}{'PSNR':>9}{'SSIM':>9}"
    values = ((row.name, *(figure.value for figure in row.figures.values())) for row in table.rows)
    return ["", header, *(f"{name:<26}{psnr:>6.2f} dB{ssim:>9.3f}" for name, psnr, ssim in values)]


def gains(table: Table) -> tuple[float, float, float]:
    """PSNR over the untouched and over the matched picture, and the share of the better floor's 1 - SSIM gone."""
    made, matched, untouched = ([figure.value for figure in row.figures.values()] for row in table.rows)
    floor = max(matched[1], untouched[1])
    return made[0] - untouched[0], made[0] - matched[0], (made[1] - floor) / (1 - floor)


def verdict(table: Table, quick: bool) -> list[str]:
    """What the figures say, in words."""
    over_untouched, over_matched, structure = gains(table)
    words = [
        f"The translations are {over_untouched:+.1f} dB nearer to the true winter than the summers are, and"
        f" {over_matched:+.1f} dB nearer than any change of colour alone; {structure:.0%} of the error in"
        " structure is gone."
    ]
    return words + ["(--quick trained for a few steps only: these figures mean nothing.)"] * quick


def what_next(out: Path, run: Run) -> list[str]:
    best = [row for row in read_lines(run.evaluations) if row.get("best")][-1:]
    return [
        f"look:      {run.report} in a browser; {out / 'winter'} holds the translations",
        *(
            f"best:      {run.best('ab')}, of {row['images']} images: {row['values']['psnr']:.2f} dB on held-out"
            " images"
            for row in best
        ),
        f"translate: twofold translate {run.path} {out / 'seasons' / 'testB'} --direction ba -o {out / 'summer'}",
        f"evaluate:  twofold evaluate {run.path} {out / 'seasons' / 'testA'} {out / 'seasons' / 'testB'}",
        "your own:  twofold train FOLDER_A FOLDER_B",
    ]
