"""Train runs with a known fault, and a healthy one; docs/guide/reading-a-run.md shows them, and a test trains them.

    python benchmarks/sick_runs.py sick

trains in the folder `sick` (a minute or two a run on one slow core), writes the guide's pictures, and prints the result of
`twofold doctor` for each. Finished runs in that folder are not trained again.
"""

import argparse
from pathlib import Path

from PIL import Image

from twofold.cli import app as cli
from twofold.runs import Run

GUIDE = Path(__file__).parents[1] / "docs" / "guide"

RECIPES = {
    "healthy": [],
    "copies": ["--cyclegan.identity", "20", "--cyclegan.gan-ab", "0.1", "--cyclegan.gan-ba", "0.1"],
    "outplayed": [
        *("--generator.width", "2", "--generator.no-skips", "--adversarial.critic-steps", "4"),
        *("--discriminator.width", "64", "--discriminator.layers", "3"),
    ],
    "collapsed": [
        *("--cyclegan.cycle-a", "0", "--cyclegan.cycle-b", "0", "--lr", "0.004", "--batch", "1"),
        *("--generator.upsample", "transposed", "--generator.no-skips"),
    ],
    "checkerboard": ["--generator.upsample", "transposed", "--generator.no-skips"],
}
"""Options of each run, in addition to docs/guide/small.yaml."""


def make_pictures(out: Path) -> None:
    """Draw the landscapes that all runs are trained on."""
    if not out.is_dir():
        assert cli.run(["data", "make", "seasons", str(out), "--count", "60", "--size", "48"]) == 0


def train(name: str, out: Path, pictures: Path) -> Run:
    """Train one run, in out/NAME."""
    train_a, train_b, val_a, val_b = (str(pictures / each) for each in ("trainA", "trainB", "valA", "valB"))
    settings = ["-c", str(GUIDE / "small.yaml"), *RECIPES[name]]
    tokens = ["train", train_a, train_b, "--val", val_a, val_b, *settings, "--out", str(out / name)]
    assert cli.run(tokens) == 0
    return Run(out / name)


def show(run: Run, scale: int = 3) -> None:
    """Save the newest sample grid from A to B, enlarged, as a picture of the guide."""
    with Image.open(run.samples("ab")[-1][1]) as grid:
        large = grid.resize((scale * grid.width, scale * grid.height), Image.Resampling.NEAREST)
    large.save(GUIDE / f"run-{run.path.name}.webp", "WEBP", quality=80)


def main(out: Path) -> None:
    make_pictures(out / "seasons")
    for name in RECIPES:
        run = train(name, out, out / "seasons")
        show(run)
        print(f"\n{name}")
        cli.run(["doctor", str(run.path)])


if __name__ == "__main__":
    from record import measurement

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with measurement():
        main(options.out)
