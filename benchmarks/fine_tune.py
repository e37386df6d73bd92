"""How many images a run needs that starts from a model of other pictures, against one that starts from nothing.

    python benchmarks/fine_tune.py OUT [COUNT] --record fine-tune

draws `seasons` of two seeds at 64 px in the folder OUT (COUNT pictures a season, 100 by default), trains on the first,
then on the second from nothing, and from the first run with half of the images. Prints the held-out PSNR of both runs on
the second seed. About 5 minutes on one core; finished runs in OUT are not trained again.
"""

import argparse
from pathlib import Path

from twofold import train
from twofold.presets import layer
from twofold.runs import Run, read_lines
from twofold.seasons import dataset as seasons

SEEDS = 11, 12
"""Of the pictures that the source is trained on, and of those of both other runs."""

EVERY = 20
"""Images between evaluations."""


def main(out: Path, count: int) -> dict[str, object]:
    before, after = (pictures(out / f"seasons-{seed}", count, seed) for seed in SEEDS)
    source = trained(before, out / "source")
    scratch = trained(after, out / "scratch")
    tuned = trained(after, out / "tuned", share=0.5, start_from=source.path)
    figures: dict[str, object] = {}
    for direction in ("ab", "ba"):
        figures |= compared(direction, curve(scratch, direction), curve(tuned, direction))
    return figures


def pictures(folder: Path, count: int, seed: int) -> Path:
    if not folder.is_dir():
        seasons.make(folder, count, 64, seed, lambda _: None)
    return folder


def trained(folder: Path, out: Path, *, share: float = 1.0, start_from: Path | None = None) -> Run:
    """The run of the preset `seasons` on these pictures, with this share of its images."""
    length = layer("seasons")["training"]
    return train(
        folder / "trainA",
        folder / "trainB",
        out=out,
        preset="seasons",
        epochs=share * length["epochs"],
        decay_epochs=share * length["decay_epochs"],
        device="cpu",
        start_from=start_from,
        settings={
            "data": {"val_a": folder / "valA", "val_b": folder / "valB", "val_paired": True},
            "evaluation": {"metric": "psnr", "every": EVERY},
            "machine": {"precision": "float32"},
        },
        notify=print,
    )


def curve(run: Run, direction: str) -> dict[int, float]:
    """The held-out PSNR in dB by images."""
    rows = (row for row in read_lines(run.evaluations) if row["direction"] == direction)
    return {row["images"]: row["values"]["psnr"] for row in rows}


def compared(direction: str, scratch: dict[int, float], tuned: dict[int, float]) -> dict[str, object]:
    """Print and return the figures of one direction."""
    goal, images = scratch[max(scratch)], max(scratch)
    reached = next((seen for seen, value in tuned.items() if value >= goal), None)
    share = "not reached" if reached is None else f"reached after {reached} images, {reached / images:.0%}"
    print(f"{direction}: from nothing {goal:.2f} dB after {images} images; from the other model {share};")
    print(f"    {tuned[max(tuned)]:.2f} dB after {max(tuned)} images")
    return {f"{direction}_scratch_db": goal, f"{direction}_images": images, f"{direction}_reached": reached}


if __name__ == "__main__":
    from record import measurement

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=100, help="pictures a season")
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    with measurement(options.record) as found:
        found |= main(options.out, options.count)
