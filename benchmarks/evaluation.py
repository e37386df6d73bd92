"""Measure the share of a default run's CPU time that its evaluations on held-out images take.

    python benchmarks/evaluation.py --size 64 --images 400

Runs each method with default settings on the built-in images. The networks are narrow to keep it short, so the share is
larger than at full width.
"""

import argparse
import tempfile
import time
from pathlib import Path

from record import measurement

from twofold.runs import Run, read_lines
from twofold.seasons import dataset as seasons
from twofold.training import train as loop
from twofold.training.records import Records

METHODS = ("cyclegan", "cut", "pix2pix")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=400, help="images of a run")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    with measurement(options.record) as figures, tempfile.TemporaryDirectory() as home:
        pictures = Path(home) / "seasons"
        seasons.make(pictures, 100, options.size, 0, lambda _: None)
        for path in (pictures / "trainB").iterdir():  # pix2pix pairs by name; these are not real pairs
            path.rename(path.with_name(path.name.replace("winter", "summer")))
        print(f"{'method':<10}{'images':>8}{'run':>10}{'evaluations':>14}{'share':>8}")
        for method in options.methods:
            figures[method] = measure(method, pictures, Run(Path(home) / method), options)


def measure(method: str, pictures: Path, run: Run, options: argparse.Namespace) -> float:
    """Train one method, print a row, and return the share."""
    spent = [0.0]
    evaluate = Records.evaluate

    def timed(records: Records) -> None:
        start = time.process_time()
        evaluate(records)
        spent[0] += time.process_time() - start

    a, b = pictures / "trainA", pictures / "trainB"
    held_out = {"val_a": pictures / "testA", "val_b": pictures / "testB"}
    epochs = options.images / 100
    settings = {
        **{"a": a, "b": b, "method": method, "generator": {"width": options.width}},
        **{"discriminator": {"width": options.width}, "data": {"size": options.size, **held_out}},
        "training": {"epochs": epochs, "decay_epochs": 0},
    }
    Records.evaluate = timed
    start = time.process_time()
    loop.start_or_resume(run.path, settings, lambda _: None)
    total = time.process_time() - start
    Records.evaluate = evaluate
    rows = read_lines(run.evaluations)
    seen = read_lines(run.metrics)[-1]["images"]
    each, share = spent[0] / max(1, len(rows)), spent[0] / total
    print(f"{method:<10}{seen:>8}{total:>8.1f} s{len(rows):>6} × {each:.2f} s{share:>8.1%}")
    return share


if __name__ == "__main__":
    main()
