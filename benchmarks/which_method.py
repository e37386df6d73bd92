"""One small training for each method, loss, critic and option: the pictures of docs/guide/which-method.md.

    python benchmarks/which_method.py which [ROW…]

trains them in the folder `which`, one after the other (about 18 minutes of one slow core in all), translates four
test scenes with each, measures it, writes the guide's pictures, and prints a line for each. What is finished there
already is not trained again.
"""

import json
import sys
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
"""60 pairs eight times; a U-Net's sizes are multiples of 32."""

LARGE = ["--size", "96", "--data.load-size", "96", "--epochs", "0.15", "--decay-epochs", "0.15"]
"""Five halvings take 96 px; four times the work an image."""

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
"""What each adds to docs/guide/which.yaml."""


def main(out: Path, wanted: list[str]) -> None:
    make_pictures(out / "seasons")
    make_masks(out / "seasons" / "trainA", out / "roofs")
    for name in wanted or ROWS:
        print(make(name, out), flush=True)


def make_pictures(seasons: Path) -> None:
    """The landscapes: 480 a side to train on, 60 pairs for pix2pix, 60 to measure on."""
    if not seasons.is_dir():
        run("data", "make", "seasons", str(seasons), "--count", "480", "--size", "48")


def make_masks(pictures: Path, out: Path) -> None:
    """What is as red as a roof is to stay as it is."""
    if out.is_dir():
        return
    for file in sorted(pictures.iterdir()):
        red, green, blue = np.moveaxis(images.read(file).astype(int), -1, 0)
        roof = (red > 1.5 * green) & (red > 1.5 * blue)
        images.write(np.uint8(255) * roof[..., None].astype(np.uint8), out / file.name)


def make(name: str, out: Path) -> str:
    """Train, translate, measure and show one row; the line to print."""
    home, translated, measured = out / name, out / f"{name}-tests", out / f"{name}.json"
    sources, answers = sides(name, out / "seasons")
    began = time.process_time()
    if not measured.is_file():
        run(*command(name, out))
        run("translate", str(home), str(sources), "-o", str(translated), "--device", "cpu")
        run("evaluate", str(translated), str(sources), str(answers), *MEASURES, "-o", str(measured))
    took = time.process_time() - began
    show(name, sources, translated, answers)
    return f"{name}: {figures(measured)}, {took:.0f} CPU seconds"


def command(name: str, out: Path) -> list[str]:
    """The training of a row."""
    seasons = out / "seasons"
    folders = [seasons / "trainA", seasons / "trainB"]
    if "pix2pix" in ROWS[name]:
        folders = [seasons / "valA", seasons / "valB"]
    if "--data.lab" in ROWS[name]:
        folders = [seasons / "valA"]
    options = [option.replace("which/", f"{out}/") for option in ROWS[name]]
    return ["train", *map(str, folders), "-c", str(GUIDE / "which.yaml"), "--out", str(out / name), *options]


def sides(name: str, seasons: Path) -> tuple[Path, Path]:
    """Sources and right answers to measure a row on."""
    return seasons / "testA", seasons / ("testA" if name == "colour" else "testB")


def figures(measured: Path) -> str:
    table = json.loads(measured.read_text(encoding="utf-8"))
    found = next(row["values"] for row in table["rows"] if row["name"] == "translated")
    return "{:.1f} dB, {:.2f}".format(*found)


def show(name: str, *folders: Path) -> None:
    """Sources, translations and answers in three rows, enlarged, as a picture of the guide."""
    across = [framed([images.read(folder / scene) for scene in SCENES], 1) for folder in folders]
    grid = Image.fromarray(framed(across, 0))
    large = grid.resize((SCALE * grid.width, SCALE * grid.height), Image.Resampling.NEAREST)
    large.save(GUIDE / f"which-{name}.webp", "WEBP", quality=80)


def framed(pictures: list[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    """Pictures in a row or a column, a white line after each."""
    line = [(0, int(each == axis)) for each in range(2)] + [(0, 0)]
    return np.concatenate([np.pad(picture, line, constant_values=255) for picture in pictures], axis)


def run(*tokens: str) -> None:
    if cli.run(list(tokens)) != 0:
        raise TwofoldError(f"this failed: twofold {' '.join(tokens)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
