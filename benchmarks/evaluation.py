"""How much of a default run's time its evaluations take: `python benchmarks/evaluation.py [--size 64] [--images 400]`.

A default run of each method on the built-in pictures, with the networks made narrow to keep it short, which makes the
evaluations' share larger than it is at full width. Prints the share of the CPU seconds that `Records.evaluate` took.
"""

import argparse
import tempfile
import time
from pathlib import Path

from twofold.reporting.records import Records
from twofold.runs import Run, read_lines
from twofold.seasons import draw as seasons
from twofold.training import train as loop
from twofold.training.api import NotifyOnly

METHODS = ("cyclegan", "cut", "pix2pix")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=400, help="images of a run")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        pictures = Path(home) / "seasons"
        seasons.make(pictures, 100, asked.size, 0, lambda _: None)
        for path in (pictures / "trainB").iterdir():  # of other places, but named alike for pix2pix
            path.rename(path.with_name(path.name.replace("winter", "summer")))
        print(f"{'method':<10}{'images':>8}{'run':>10}{'evaluations':>14}{'share':>8}")
        for method in asked.methods:
            report(method, pictures, Run(Path(home) / method), asked)


def report(method: str, pictures: Path, run: Run, asked: argparse.Namespace) -> None:
    clock = [0.0]
    evaluate = Records.evaluate

    def timed(records: Records) -> None:
        began = time.process_time()
        evaluate(records)
        clock[0] += time.process_time() - began

    a, b = pictures / "trainA", pictures / "trainB"
    held = {"val_a": pictures / "testA", "val_b": pictures / "testB"}
    epochs = asked.images / 100
    said = {
        **{"a": a, "b": b, "method": method, "generator": {"width": asked.width}},
        **{"discriminator": {"width": asked.width}, "data": {"size": asked.size, **held}},
        "training": {"epochs": epochs, "decay_epochs": 0},
    }
    Records.evaluate = timed
    began = time.process_time()
    loop.train(run.path, said, NotifyOnly(lambda _: None))
    took = time.process_time() - began
    Records.evaluate = evaluate
    spent = clock[0]
    rows = read_lines(run.evaluations)
    seen = read_lines(run.metrics)[-1]["images"]
    print(
        f"{method:<10}{seen:>8}{took:>8.1f} s{len(rows):>6} × {spent / max(1, len(rows)):.2f} s{spent / took:>8.1%}"
    )


if __name__ == "__main__":
    main()
