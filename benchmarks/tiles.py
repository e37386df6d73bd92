"""Translate large pictures in tiles: how near to the whole, how much memory, and whether a killed run goes on.

    python benchmarks/tiles.py accuracy --size 2048 --record tiles-accuracy
    python benchmarks/tiles.py memory --size 1024 --width 32 --record tiles-memory
    python benchmarks/tiles.py large --side 12000 --record tiles-large
    python benchmarks/tiles.py pictures --out docs/guide

accuracy: four networks, trained for a short time on built-in landscapes (summer to winter), translate a landscape as a whole
and in tiles: with exact statistics, with those of a sample, and naively, where each tile is an image of its own. PSNR in dB
against the whole, and the step at borders: the mean difference of the error between the two pixels at a border, less that
of other neighbours, in levels of 255.
memory: the estimate against the measured peak (Linux), for the first and the second image.
large: a picture of side² pixels as a BigTIFF through ResNet-6 of width 8, unbroken, and killed twice and resumed: bytes
equal, peak memory above the loaded model.
pictures: the same part of a landscape as a whole, in tiles, and naively.
"""

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import measurement

from twofold import hardware
from twofold.formats.contract import Pixels
from twofold.networks.layers import Generator, initialise
from twofold.networks.registry import describe
from twofold.networks.resnet_skips import resnet
from twofold.networks.unet import UnetGenerator
from twofold.seasons import landscape
from twofold.translation import memory, model_file
from twofold.translation.header import Header
from twofold.translation.tiles import Tiling
from twofold.translation.translator import Translator

NETWORKS: dict[str, Callable[[int], Generator]] = {
    "resnet": lambda width: resnet(width=width, blocks=6),
    "unet": lambda width: UnetGenerator(width=width, depth=6),
    "cut": lambda width: resnet(width=width, blocks=6, antialias=True, upsample="blur"),
    "skip": lambda width: resnet(width=width, blocks=6, skips=True),
}

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from twofold import hardware
from twofold.translation.tiles import Tiling
from twofold.translation.translator import Translator
hardware.keep_freed_memory()
translator = Translator.load({model!r}, device="cpu")
translator.tiling = Tiling({tiles}, memory={memory}, statistics={statistics!r})
def status(row):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(row))
before = status("VmRSS")
results = translator.folder({source!r}, {out!r}, at="native")
print("problems", results.problems)
print("peak MiB", (status("VmHWM") - before) / 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["accuracy", "memory", "large", "pictures"])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--size", type=int, default=2048, help="side in pixels of the landscape")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200, help="of training")
    parser.add_argument("--side", type=int, default=12_000, help="of the large picture")
    parser.add_argument("--memory", type=int, default=900, help="MiB that the large picture may take")
    parser.add_argument("--statistics", choices=["auto", "exact", "fast"], default="auto")
    parser.add_argument("--folder", type=Path, help="for the large picture; default: a temporary one")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    runs = {"accuracy": accuracy, "memory": measured_memory, "large": large, "pictures": pictures}
    with measurement(options.record, threads=torch.get_num_threads()) as figures:
        for name, value in runs[options.what](options):
            figures[name] = value
            print(f"{name:<40} {value}", flush=True)


# ---- accuracy


def accuracy(options: argparse.Namespace) -> Iterator[tuple[str, object]]:
    picture = np.asarray(landscape.draw(77, options.size, 8)[0])
    for name in options.networks:
        translator = trained(name, options.width, options.steps)
        seconds, whole = timed(lambda translator=translator: translator.array(picture, "native"))
        yield f"{name} whole, s", round(seconds, 2)
        for how in ("exact", "fast", "naive"):
            seconds, tiled = timed(
                lambda how=how, translator=translator: by_tiles(translator, picture, options.tile, how)
            )
            yield f"{name} {how}, s", round(seconds, 2)
            yield f"{name} {how}, dB", round(psnr(whole, tiled), 2)
            yield f"{name} {how}, largest step at a border", round(step(whole, tiled, options.tile), 3)


def trained(name: str, width: int, steps: int) -> Translator:
    """A translator from summer to winter, trained with L1 on pairs of crops of 128 px."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    pairs = [[to_tensor(each) for each in landscape.draw(scene, 256, 8)] for scene in range(24)]
    network = NETWORKS[name](width)
    initialise(network)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3, betas=(0.5, 0.999))
    for _ in range(steps):
        crops = [
            [each[:, y : y + 128, x : x + 128] for each in pairs[scene]]
            for scene, y, x in zip(random.integers(0, 24, 4), *random.integers(0, 128, (2, 4)), strict=True)
        ]
        summer, winter = (torch.stack(each) for each in zip(*crops, strict=True))
        optimizer.zero_grad()
        (network(summer) - winter).abs().mean().backward()
        optimizer.step()
    return Translator.of(network, Header(describe(network), "ab"), device="cpu")


def to_tensor(picture: Pixels) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def by_tiles(translator: Translator, picture: Pixels, tile: int, how: str) -> Pixels:
    if how != "naive":
        translator.tiling = Tiling(tile, statistics=how)  # pyright: ignore[reportArgumentType]
        return translator.array(picture, "native")
    translator.tiling = Tiling("off")
    made = np.empty_like(picture)
    for y in range(0, len(picture), tile):
        for x in range(0, picture.shape[1], tile):
            part = np.ascontiguousarray(picture[y : y + tile, x : x + tile])
            made[y : y + tile, x : x + tile] = translator.array(part, "native")
    return made


def timed(run: Callable[[], Pixels]) -> tuple[float, Pixels]:
    start = time.perf_counter()
    return (lambda made: (time.perf_counter() - start, made))(run())


def psnr(whole: Pixels, tiled: Pixels) -> float:
    error = np.square(whole.astype(np.float64) - tiled).mean()
    return float("inf") if not error else 10 * np.log10(255**2 / error)


def step(whole: Pixels, tiled: Pixels, tile: int) -> float:
    """The largest mean step of the error across a tile's border, above the mean step elsewhere, in levels."""
    error = tiled.astype(np.float64) - whole
    found = []
    for turned in (error, error.swapaxes(0, 1)):
        steps = np.abs(np.diff(turned, axis=0)).mean((1, 2))
        borders = np.arange(tile - 1, len(steps), tile)
        found += [steps[border] - np.delete(steps, borders).mean() for border in borders]
    return float(max(found))


# ---- memory


def measured_memory(options: argparse.Namespace) -> Iterator[tuple[str, object]]:
    hardware.keep_freed_memory()
    for name in options.networks:
        for precision in ("float32", "bf16"):
            network = NETWORKS[name](options.width)
            initialise(network)
            translator = Translator.of(
                network, Header(describe(network), "ab"), device="cpu", precision=precision
            )
            translator.array(np.zeros((128, 128, 3), np.uint8), "native")
            for size in (options.size, options.size * 3 // 2):
                picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
                estimate = memory.peak(network, translator.forward, precision, size**2) / size**2
                hardware.return_freed_memory()
                before = status("VmRSS")
                for which in ("first", "second"):
                    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
                    translator.array(picture, "native")
                    peak = (status("VmHWM") - before) / size**2
                    yield (
                        f"{name} {precision} {size} px, {which}",
                        f"{estimate:.0f} B a pixel, measured {peak:.0f}: {estimate / peak - 1:+.0%}",
                    )


def status(row: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(row))


# ---- large


def large(options: argparse.Namespace) -> Iterator[tuple[str, object]]:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder)
        torch.manual_seed(0)
        network = NETWORKS["resnet"](8)
        initialise(network)
        model_file.save(network, Header(describe(network), "ab"), root / "model.safetensors")
        write_large(root / "large.tif", options.side)
        yield "source, MiB", (root / "large.tif").stat().st_size >> 20
        start = time.perf_counter()
        first = subprocess.run(program(options, root, "unbroken"), capture_output=True, text=True, check=True)
        yield "unbroken, s", round(time.perf_counter() - start, 1)
        yield "problems", re.findall(r"problems (.*)", first.stdout)[0]
        yield "peak above the loaded model, MiB", float(re.findall(r"peak MiB (.*)", first.stdout)[0])
        for rows in (1, 2):
            kill_after(
                program(options, root, "broken"), root / "broken" / ".large.tif.parts" / "rows.json", rows
            )
        yield "rows done when it was killed for the second time", rows_done(root / "broken")
        subprocess.run(program(options, root, "broken"), capture_output=True, check=True)
        files = [root / name / "large.tif" for name in ("unbroken", "broken")]
        hashes = [hashlib.sha256(each.read_bytes()).hexdigest() for each in files]
        yield "equal byte for byte", hashes[0] == hashes[1]


def program(options: argparse.Namespace, root: Path, out: str) -> list[str]:
    names = {
        "root": str(Path(__file__).parents[1]),
        "model": str(root / "model.safetensors"),
        "source": str(root / "large.tif"),
        "out": str(root / out / "large.tif"),
        "tiles": options.tile,
        "memory": options.memory * 2**20,
        "statistics": options.statistics,
    }
    return [sys.executable, "-c", PROGRAM.format(**names)]


def write_large(path: Path, side: int) -> None:
    """A BigTIFF of landscapes of 1024 px beside each other, written tile by tile."""
    scenes = [np.asarray(landscape.draw(scene, 1024, 8)[0]) for scene in range(6)]

    def tiles() -> Iterator[Pixels]:
        for y in range(-(-side // 256)):
            for x in range(-(-side // 256)):
                scene = scenes[(y // 4 * 5 + x // 4) % len(scenes)]
                top, left = y % 4 * 256, x % 4 * 256
                yield np.ascontiguousarray(scene[top : top + 256, left : left + 256])

    tifffile.imwrite(
        path,
        tiles(),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(256, 256),
        bigtiff=True,
        photometric="rgb",
        compression="deflate",
        resolution=(5000, 5000),
        resolutionunit="CENTIMETER",
    )


def kill_after(command: list[str], journal: Path, rows: int) -> None:
    """Start a program and kill it when its journal has more than `rows` rows."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and rows_done(journal.parents[1]) < rows:
        time.sleep(0.05)
    if process.poll() is not None:
        raise SystemExit("the program ended before it was killed; use a larger --side or a smaller --tile")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def rows_done(out: Path) -> int:
    journal = out / ".large.tif.parts" / "rows.json"
    return journal.read_text().count("[") - 1 if journal.is_file() else 0


# ---- pictures


def pictures(options: argparse.Namespace) -> Iterator[tuple[str, object]]:
    """One row: the landscape, its whole translation, in tiles with exact statistics, and naively; WebP, 256 px each."""
    picture = np.asarray(landscape.draw(77, 1024, 8)[0])
    for name in options.networks:
        translator = trained(name, options.width, options.steps)
        row = [picture, translator.array(picture, "native")]
        row += [by_tiles(translator, picture, 256, how) for how in ("exact", "naive")]
        small = [Image.fromarray(each).resize((320, 320), Image.Resampling.LANCZOS) for each in row]
        strip = np.concatenate([np.asarray(each) for each in small], 1)
        path = options.out / f"tiles-{name}.webp"
        Image.fromarray(strip).save(path, quality=80)
        yield path.name, f"{path.stat().st_size / 1000:.0f} kB"


if __name__ == "__main__":
    main()
