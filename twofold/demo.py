"""`twofold demo`: draws pictures, trains, translates, and measures the translations against known answers."""

from pathlib import Path

from twofold import config as configs
from twofold.evaluation.evaluate import evaluate, measure_row
from twofold.evaluation.measures import Sample, answer_measure
from twofold.evaluation.table import PICTURE, Table
from twofold.formats import images
from twofold.formats.values import Uint8
from twofold.metrics.image import match_histogram
from twofold.presets import layer
from twofold.reporting.report import write_report
from twofold.runs import Notify, Run, read_lines
from twofold.seasons import dataset as seasons
from twofold.training import train as loop
from twofold.translation.translator import Translator

COUNT, SIZE, SEED = 400, 64, 2
"""Pictures of each season to train on, their side in pixels, and the seed of their drawing."""

QUICK_COUNT = 24
QUICK = {"training": {"epochs": 0.2, "decay_epochs": 0.2, "samples": 2}}
"""Pictures and steps of `--quick`, which only shows that everything works."""


def demonstrate(out: Path, quick: bool, notify: Notify, progress: loop.Progress) -> bool:
    """Run the demo in the folder `out`, or resume an earlier one; returns whether it is finished."""
    pictures, run = out / "seasons", Run(out / "run")
    if not pictures.is_dir():
        count = QUICK_COUNT if quick else COUNT
        notify(f"1. drawing {count} summer and {count} winter landscapes, no two of the same place")
        seasons.make(pictures, count, SIZE, SEED, notify)
    notify("2. training: summer to winter and back, from pictures of different places")
    train_a, train_b, val_a, val_b = (pictures / name for name in ("trainA", "trainB", "valA", "valB"))
    overrides = configs.merge(
        layer("seasons"),
        QUICK if quick else {},
        {"a": train_a, "b": train_b, "data": {"val_a": val_a, "val_b": val_b}},
    )
    if not loop.start_or_resume(run.path, overrides, notify, progress):
        notify(f"resume:     twofold demo --out {out}")
        return False
    notify("3. translating summers that were not trained on, and comparing them with their true winters")
    translator = Translator.load(run.path)
    for path in images.find(pictures / "testA"):
        images.write(translator.array(images.read(path, 3)), out / "winter" / path.name)
    table = judge(out / "winter", pictures)
    table.summary = " ".join(verdict(table, quick))
    table.save(run.evaluation, run.path / PICTURE)
    write_report(run)
    for line in [*lines(table), *verdict(table, quick), "", *what_next(out, run)]:
        notify(line)
    return True


def judge(translated: Path, pictures: Path) -> Table:
    """The translations, the best change of colours alone, and the untouched summers, against the true winters."""
    metrics = ("psnr", "ssim")
    table = evaluate(translated, pictures / "testA", pictures / "testB", paired=True, metrics=metrics)
    summers, winters = (read_all(pictures / name) for name in ("testA", "testB"))
    matched = match_histogram(summers, read_all(pictures / "trainA"), read_all(pictures / "trainB"))
    samples = (Sample(i, *each) for i, each in enumerate(zip(summers, matched, winters, strict=True)))
    table.rows.insert(1, measure_row("colours matched", samples, [answer_measure(name) for name in metrics]))
    table.title = "Summer to winter, against the true winter"
    table.caption = "summer, translated, true winter"
    table.notes = [
        "Means over testA, whose places were not in training. Colours matched: each channel's histogram of all of"
        " trainA mapped to that of all of trainB."
    ]
    return table


def read_all(folder: Path) -> list[Uint8]:
    return [images.read(path, 3) for path in images.find(folder)]


def lines(table: Table) -> list[str]:
    """The values, in plain columns."""
    header = f"{'against the true winter':<26}{'PSNR':>9}{'SSIM':>9}"
    values = ((row.name, *(estimate.value for estimate in row.values.values())) for row in table.rows)
    return ["", header, *(f"{name:<26}{psnr:>6.2f} dB{ssim:>9.3f}" for name, psnr, ssim in values)]


def gains(table: Table) -> tuple[float, float, float]:
    """dB over the untouched and over the colour-matched picture, and by how much of the better one's 1 - SSIM fell."""
    made, matched, untouched = ([estimate.value for estimate in row.values.values()] for row in table.rows)
    floor = max(matched[1], untouched[1])
    return made[0] - untouched[0], made[0] - matched[0], (made[1] - floor) / (1 - floor)


def verdict(table: Table, quick: bool) -> list[str]:
    """The gains in words."""
    over_untouched, over_matched, structure = gains(table)
    words = [
        f"PSNR against the true winters: {over_untouched:+.1f} dB over the untouched summers and {over_matched:+.1f} dB"
        f" over the best change of colours alone. {structure:.0%} of the structural error (1 - SSIM) is gone."
    ]
    return words + ["(--quick trains for a few steps only: these values mean nothing.)"] * quick


def what_next(out: Path, run: Run) -> list[str]:
    best = [row for row in read_lines(run.evaluations) if row.get("best")][-1:]
    return [
        f"report:    open {run.report} in a browser; the translations are in {out / 'winter'}",
        *(
            f"best:      {run.best('ab')}, of {row['images']} images: {row['values']['psnr']:.2f} dB on held-out"
            " images"
            for row in best
        ),
        f"translate: twofold translate {run.path} {out / 'seasons' / 'testB'} --direction ba -o {out / 'summer'}",
        f"evaluate:  twofold evaluate {run.path} {out / 'seasons' / 'testA'} {out / 'seasons' / 'testB'}",
        "your own:  twofold train FOLDER_A FOLDER_B",
    ]
