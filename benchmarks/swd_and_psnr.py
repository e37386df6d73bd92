"""Compare the order of a run's snapshots by SWD, which needs no answers, with their order by PSNR.

    twofold data make seasons seasons --size 64
    twofold train seasons/trainA seasons/trainB --val seasons/valA seasons/valB --preset seasons --out runs/seasons
    python benchmarks/swd_and_psnr.py seasons/valA seasons/valB runs/seasons

The held-out folders hold answers under equal names. Prints, for each run and direction, both values of each snapshot
and Spearman's rank correlation of -SWD and PSNR: 1 is the same order.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from record import measurement

from twofold.formats import images
from twofold.formats.contract import Pixels
from twofold.formats.values import to_network
from twofold.metrics.image import psnr
from twofold.metrics.structure import structure_kept
from twofold.metrics.swd import SlicedWasserstein
from twofold.runs import DIRECTIONS, Run
from twofold.translation.translator import Translator


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    domains = {
        side: [images.read(path) for path in images.find(folder)]
        for side, folder in (("a", options.a), ("b", options.b))
    }
    with measurement(options.record) as figures:
        for run in options.runs:
            for way in DIRECTIONS:
                rows = [
                    (count, *measure(Translator.load(snapshot, device="cpu"), *(domains[s] for s in way)))
                    for count, snapshot in Run(run).snapshots(way)
                ]
                if rows:
                    figures[f"{run.name} {way}"] = summarise(f"{run.name} {way}", np.array(rows))


def measure(
    translator: Translator, sources: list[Pixels], answers: list[Pixels]
) -> tuple[float, float, float]:
    """(PSNR in dB, SWD, edges kept) of one snapshot."""
    outputs = [translator(source) for source in sources]
    target = translator.target
    reference, made = (
        [to_network(torch.from_numpy(np.array(image.transpose(2, 0, 1))), target) for image in of]
        for of in (answers, outputs)
    )
    side = min(min(image.shape[1:]) for image in (*reference, *made))
    distances = SlicedWasserstein(reference, len(reference), side)
    return (
        float(np.mean([psnr(*pair) for pair in zip(outputs, answers, strict=True)])),
        distances.distance([distances.patches(x, i, len(made)) for i, x in enumerate(made)]).value,
        float(np.mean([structure_kept(*pair)[1] for pair in zip(sources, outputs, strict=True)])),
    )


def summarise(name: str, rows: np.ndarray) -> float:
    """Print the rows (images, PSNR, SWD, edges kept), and return the rank correlation."""
    print(f"{name}: {'images':>8}{'PSNR':>8}{'SWD':>8}{'edges':>8}")
    for row in rows:
        print(f"{'':{len(name) + 2}}{row[0]:>8.0f}{row[1]:>8.2f}{row[2]:>8.3f}{row[3]:>8.2f}")
    found = rank_correlation(-rows[:, 2], rows[:, 1])
    best, chosen = rows[:, 1].max(), rows[rows[:, 2].argmin(), 1]
    print(f"rank correlation {found:.2f}; PSNR of the lowest SWD {chosen:.2f} dB, highest {best:.2f} dB")
    return found


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's, of values without ties."""
    return float(np.corrcoef(x.argsort().argsort(), y.argsort().argsort())[0, 1])


if __name__ == "__main__":
    main()
