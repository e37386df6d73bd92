"""`twofold demo`: the main job from nothing. Pictures, a training, translations, and figures for what came out."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold import config as configs
from twofold import images
from twofold.data import seasons
from twofold.evaluation.paired import Score, match_histogram, score
from twofold.presets import layer
from twofold.runs import Run
from twofold.training import loop, start
from twofold.training.loop import Watcher
from twofold.training.report import write_report
from twofold.translation.translator import Translator

COUNT, SIZE, SEED = 400, 64, 2
"""Pictures of each season to train on, their side in pixels, and the seed of their drawing."""

FEW = 24
QUICK = {"training": {"epochs": 0.2, "decay_epochs": 0.2, "samples": 2}}
"""Few pictures and few steps, for those who only want to see that everything works."""

Uint8 = NDArray[np.uint8]


class Judged(NamedTuple):
    """One way to make winter out of summer, and how near it comes to the true winter."""

    name: str
    score: Score


def demonstrate(out: Path, quick: bool, watcher: Watcher) -> bool:
    """Run the demo in the folder `out`, or go on where an earlier one stopped; whether it is finished."""
    pictures, run = out / "seasons", Run(out / "run")
    if not pictures.is_dir():
        count = FEW if quick else COUNT
        watcher.say(f"1. drawing {count} summer and {count} winter landscapes, no two of the same place")
        seasons.make(pictures, count, SIZE, SEED, watcher.say)
    watcher.say("2. training: summer to winter and back, without ever seeing the same place in both")
    train_a, train_b, val_a, val_b = (
        (pictures / name).absolute() for name in ("trainA", "trainB", "valA", "valB")
    )
    said = configs.merge(
        layer("seasons"),
        QUICK if quick else {},
        {"a": train_a, "b": train_b, "data": {"val_a": val_a, "val_b": val_b}},
    )
    if not loop.train(run.path, said, watcher):
        watcher.say(f"go on:      twofold demo --out {out}")
        return False
    watcher.say("3. translating summers that were not trained on, and comparing with their true winters")
    summers, winters = (read_all(pictures / name) for name in ("testA", "testB"))
    translator = Translator.load(run.path)
    translated = [translator.array(summer) for summer in summers]
    for path, result in zip(images.find(pictures / "testA"), translated, strict=True):
        images.write(result, out / "winter" / path.name)
    matched = match_histogram(summers, read_all(pictures / "trainA"), read_all(pictures / "trainB"))
    rows = [
        Judged("translated", score(translated, winters)),
        Judged("colours matched", score(matched, winters)),
        Judged("untouched", score(summers, winters)),
    ]
    write_evaluation(run, rows, [summers, translated, winters], quick)
    for line in [*table(rows), *verdict(rows, quick), "", *what_next(out, run)]:
        watcher.say(line)
    return True


def read_all(folder: Path) -> list[Uint8]:
    return [images.read(path, 3) for path in images.find(folder)]


def table(rows: list[Judged]) -> list[str]:
    """The figures, in plain columns."""
    header = f"{'against the true winter':<26}{'PSNR':>9}{'SSIM':>9}"
    return ["", header, *(f"{name:<26}{each.psnr:>6.2f} dB{each.ssim:>9.3f}" for name, each in rows)]


def gains(rows: list[Judged]) -> tuple[float, float, float]:
    """PSNR over the untouched and over the matched picture, and the share of the better floor's 1 - SSIM gone."""
    made, matched, untouched = (row.score for row in rows)
    floor = max(matched.ssim, untouched.ssim)
    return made.psnr - untouched.psnr, made.psnr - matched.psnr, (made.ssim - floor) / (1 - floor)


def verdict(rows: list[Judged], quick: bool) -> list[str]:
    """What the figures say, in words."""
    over_untouched, over_matched, structure = gains(rows)
    lines = [
        f"The translations are {over_untouched:+.1f} dB nearer to the true winter than the summers are, and"
        f" {over_matched:+.1f} dB nearer than any change of colour alone; {structure:.0%} of the error in"
        " structure is gone."
    ]
    return lines + ["(--quick trained for a few steps only: these figures mean nothing.)"] * quick


def what_next(out: Path, run: Run) -> list[str]:
    return [
        f"look:      {run.report} in a browser; {out / 'winter'} holds the translations",
        f"translate: twofold translate {run.path} {out / 'seasons' / 'testB'} --direction ba -o {out / 'summer'}",
        "your own:  twofold train FOLDER_A FOLDER_B",
    ]


def write_evaluation(run: Run, rows: list[Judged], columns: list[list[Uint8]], quick: bool) -> None:
    """evaluation.json and its picture, and the report with both."""
    picture = contact_sheet(columns)
    picture.save(run.path / "evaluation.webp", "WEBP", quality=92)
    best = max(rows, key=lambda row: row.score.psnr)
    content: dict[str, Any] = {
        "title": "Summer to winter, against the true winter",
        "summary": " ".join(verdict(rows, quick)),
        "columns": ["PSNR (dB)", "SSIM"],
        "rows": [
            {
                "name": row.name,
                "values": [round(row.score.psnr, 2), round(row.score.ssim, 3)],
                "best": row is best,
            }
            for row in rows
        ],
        "note": "Means over testA, whose places were not in training. Colours matched: each channel's histogram"
        " carried from all of trainA to all of trainB.",
        "pictures": [{"caption": "summer, translated, true winter", "path": "evaluation.webp"}],
    }
    start.replace(run.evaluation, json.dumps(content, indent=1))
    write_report(run)


def contact_sheet(columns: list[list[Uint8]], rows: int = 4, across: int = 2) -> Image.Image:
    """The first images side by side with what became of them, `across` groups in each of `rows` rows."""
    groups = [np.concatenate(group, 1) for group in list(zip(*columns, strict=True))[: rows * across]]
    gap = np.full((groups[0].shape[0], 8, 3), 255, np.uint8)
    lines = [
        np.concatenate([part for group in groups[i : i + across] for part in (group, gap)][:-1], 1)
        for i in range(0, len(groups) - across + 1, across)
    ]
    sheet = np.concatenate(lines)
    return Image.fromarray(images.resize(sheet, *(2 * side for side in sheet.shape[:2])))
