"""Train one small run for each method, loss, discriminator and option: the pictures of docs/guide/which-method.md.

    python benchmarks/which_method.py which [ROW…]

trains in the folder `which`, one run after the other (about 18 minutes of one slow core in all), translates and evaluates
the test images, writes the guide's pictures of four scenes, and prints a line for each run. Finished runs in that folder
are not trained again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.cli import app as cli
from twofold.errors import TwofoldError
from twofold.formats import images

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
SCENES = tuple(f"test-{number:05d}.png" for number in (0, 1, 3, 4))
MEASURES = ("--metrics", "psnr", "ssim", "--device", "cpu")
SCALE = 2

PAIRS = ["--method", "pix2pix", "--size", "64", "--data.load-size", "64", "--generator.network", "unet"]
PAIRS += ["--epochs", "4", "--decay-epochs", "4"]
"""60 pairs, 8 epochs; a U-Net takes multiples of 32 pixels."""

LARGE = ["--size", "96", "--data.load-size", "96", "--epochs", "0.15", "--decay-epochs", "0.15"]
"""Five halvings need 96 px, which is four times the work an image."""

ROWS: dict[str, list[str]] = {
    "cyclegan": [],
    "cut": ["--method", "cut"],
    "fastcut": ["--method", "fastcut"],
    "pix2pix": PAIRS,
    "bce": ["--adversarial.loss", "bce"],
    "hinge": ["--adversarial.loss", "hinge"],
    "wgan": ["--adversarial.loss", "wgan", "--adversarial.critic-steps", "2"],
    "r1": ["--adversarial.r1", "1"],
    "patch-1": ["--discriminator.layers", "1"],
    "patch-2": ["--discriminator.layers", "2"],
    "pixel": ["--discriminator.network", "pixel"],
    "image": [*LARGE, "--discriminator.network", "image"],
    "pytorch-gan": ["--discriminator.network", "pytorch-gan"],
    "scales": ["--discriminator.scales", "2", "--discriminator.layers", "2"],
    "count": ["--discriminator.count", "2"],
    "also": ["--discriminator.extra-layers", "1", "--cyclegan.recent-updates", "2"],
    "spectral": ["--discriminator.spectral", "--discriminator.norm", "none"],
    "plain": ["--generator.no-skips"],
    "transposed": ["--generator.no-skips", "--generator.upsample", "transposed"],
    "blur": ["--generator.no-skips", "--generator.upsample", "blur"],
    "antialias": ["--generator.antialias", "--discriminator.antialias"],
    "adversarial-cycle": ["--cyclegan.cycle", "adversarial"],
    "augment": ["--adversarial.augment", "colour,translation,cutout"],
    "masks": ["--data.masks-a", "which/roofs", "--cyclegan.mask", "10"],
    "colour": [*PAIRS, "--data.lab"],
}
"""Options of each run, in addition to docs/guide/which.yaml."""


def main(out: Path, wanted: list[str]) -> None:
    make_pictures(out / "seasons")
    make_masks(out / "seasons" / "trainA", out / "roofs")
    for name in wanted or ROWS:
        print(make(name, out), flush=True)


def make_pictures(seasons: Path) -> None:
    """Draw the landscapes: 480 a side to train on, 60 pairs for pix2pix, 60 to evaluate on."""
    if not seasons.is_dir():
        run("data", "make", "seasons", str(seasons), "--count", "480", "--size", "48")


def make_masks(pictures: Path, out: Path) -> None:
    """Mark what is as red as a roof, which the translation should keep."""
    if out.is_dir():
        return
    for file in sorted(pictures.iterdir()):
        red, green, blue = np.moveaxis(images.read(file).astype(int), -1, 0)
        roof = (red > 1.5 * green) & (red > 1.5 * blue)
        images.write(np.uint8(255) * roof[..., None].astype(np.uint8), out / file.name)


def make(name: str, out: Path) -> str:
    """Train, translate, evaluate and show one row; returns the line to print."""
    home, translated, measured = out / name, out / f"{name}-tests", out / f"{name}.json"
    sources, answers = sides(name, out / "seasons")
    start = time.process_time()
    if not measured.is_file():
        run(*command(name, out))
        run("translate", str(home), str(sources), "-o", str(translated), "--device", "cpu")
        run(
            "evaluate",
            str(translated),
            str(sources),
            str(answers),
            "--paired",
            *MEASURES,
            "-o",
            str(measured),
        )
    seconds = time.process_time() - start
    show(name, sources, translated, answers)
    return f"{name}: {figures(measured)}, {seconds:.0f} CPU seconds"


def command(name: str, out: Path) -> list[str]:
    """The command that trains a row."""
    seasons = out / "seasons"
    folders = [seasons / "trainA", seasons / "trainB"]
    if "pix2pix" in ROWS[name]:
        folders = [seasons / "valA", seasons / "valB"]
    if "--data.lab" in ROWS[name]:
        folders = [seasons / "valA"]
    options = [option.replace("which/", f"{out}/") for option in ROWS[name]]
    return ["train", *map(str, folders), "-c", str(GUIDE / "which.yaml"), "--out", str(out / name), *options]


def sides(name: str, seasons: Path) -> tuple[Path, Path]:
    """Test images and their right answers for a row."""
    return seasons / "testA", seasons / ("testA" if name == "colour" else "testB")


def figures(measured: Path) -> str:
    table = json.loads(measured.read_text(encoding="utf-8"))
    found = next(row["values"] for row in table["rows"] if row["name"] == "translated")
    return "{:.1f} dB, {:.2f}".format(*found)


def show(name: str, *folders: Path) -> None:
    """Save sources, translations and answers in three rows, enlarged, as a picture of the guide."""
    across = [framed([images.read(folder / scene) for scene in SCENES], 1) for folder in folders]
    grid = Image.fromarray(framed(across, 0))
    large = grid.resize((SCALE * grid.width, SCALE * grid.height), Image.Resampling.NEAREST)
    large.save(GUIDE / f"which-{name}.webp", "WEBP", quality=80)


def framed(pictures: list[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    """Join pictures in a column (axis 0) or a row (axis 1), with a white line after each."""
    line = [(0, int(each == axis)) for each in range(2)] + [(0, 0)]
    return np.concatenate([np.pad(picture, line, constant_values=255) for picture in pictures], axis)


def run(*tokens: str) -> None:
    if cli.run(list(tokens)) != 0:
        raise TwofoldError(f"a command failed: twofold {' '.join(tokens)}")


if __name__ == "__main__":
    from record import measurement

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names of rows; all if none is given")
    options = parser.parse_args()
    with measurement():
        main(options.out, options.rows)
