"""`twofold demo`: draws pictures, trains, translates, and measures the translations against known answers."""

from pathlib import Path
from shlex import quote

from twofold import config as configs
from twofold.evaluation.evaluate import evaluate, to_row
from twofold.evaluation.measures import PSNR, SSIM, Sample
from twofold.evaluation.table import Table
from twofold.formats import images
from twofold.formats.values import Uint8
from twofold.metrics.image import match_histogram
from twofold.presets import layer
from twofold.reporting.report import write_report
from twofold.runs import Notify, Run, Track, read_lines, untracked
from twofold.seasons import dataset as seasons
from twofold.training import train as loop
from twofold.translation.translator import Translator

COUNT, SIZE, SEED = 400, 64, 2
"""Pictures of each season to train on, their side in pixels, and the seed of their drawing."""

QUICK_COUNT = 24
QUICK = {"training": {"epochs": 0.2, "decay_epochs": 0.2, "samples": 2}}
"""Pictures and steps of `--quick`, which only shows that everything works."""


def demonstrate(
    out: Path, quick: bool, notify: Notify, progress: loop.Progress, track: Track = untracked
) -> bool:
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
    if not loop.start_or_resume(run.path, overrides, notify, progress, track):
        notify(f"resume:     twofold demo --out {quote(str(out))}{' --quick' if quick else ''}")
        return False
    notify("3. translating summers that were not trained on, and comparing them with their true winters")
    translator = Translator.load(run.path)
    for path in images.find(pictures / "testA"):
        images.write(translator.array(images.read(path, 3)), out / "winter" / path.name)
    table = judge(out / "winter", pictures, quick)
    table.save_in(run, "demo-testA-testB")
    write_report(run)
    for line in ["", *str(table).splitlines(), "", *what_next(out, run)]:
        notify(line)
    return True


def judge(translated: Path, pictures: Path, quick: bool) -> Table:
    """The translations, the best change of colours alone, and the untouched summers, against the true winters."""
    test_a, test_b = pictures / "testA", pictures / "testB"
    table = evaluate(translated, test_a, test_b, paired=True, metrics=("psnr", "ssim"))
    summers, winters = read_all(test_a), read_all(test_b)
    matched = match_histogram(summers, read_all(pictures / "trainA"), read_all(pictures / "trainB"))
    measures = [PSNR(), SSIM()]
    for number, each in enumerate(zip(summers, matched, winters, strict=True)):
        for measure in measures:
            measure.add(Sample(number, *each))
    table.rows.insert(1, to_row("colours matched", measures))
    table.title = "Summer to winter, against the true winter"
    table.summary = gains_in_words(table)
    table.caption = "summer, translated, true winter"
    table.notes = [
        "Means over testA, whose places were not in training. Colours matched: each channel's histogram of all of"
        " trainA mapped to that of all of trainB.",
        *["--quick trains for a few steps only: these values mean nothing."] * quick,
    ]
    return table


def read_all(folder: Path) -> list[Uint8]:
    return [images.read(path, 3) for path in images.find(folder)]


def gains_in_words(table: Table) -> str:
    """Over the untouched and over the colour-matched summers, and by how much of the better one's 1 - SSIM fell."""
    made, matched, untouched = ([estimate.value for estimate in row.values.values()] for row in table.rows)
    floor = max(matched[1], untouched[1])
    return (
        f"PSNR against the true winters: {made[0] - untouched[0]:+.1f} dB over the untouched summers and"
        f" {made[0] - matched[0]:+.1f} dB over the best change of colours alone."
        f" {(made[1] - floor) / (1 - floor):.0%} of the structural error (1 - SSIM) is gone."
    )


def what_next(out: Path, run: Run) -> list[str]:
    best = [
        row for row in read_lines(run.evaluations) if row.get("best") and row.get("direction", "ab") == "ab"
    ][-1:]
    test_a, test_b, summer = (quote(str(out / each)) for each in ("seasons/testA", "seasons/testB", "summer"))
    return [
        f"report:    open {run.report} in a browser; the translations are in {out / 'winter'}",
        *(
            f"best:      {run.best('ab')}, of {row['images']} images: {row['values']['psnr']:.2f} dB on held-out"
            " images"
            for row in best
        ),
        f"translate: twofold translate {run.quoted} {test_b} --direction ba -o {summer}",
        f"evaluate:  twofold evaluate {run.quoted} {test_a} {test_b}",
        "your own:  twofold train FOLDER_A FOLDER_B",
    ]
