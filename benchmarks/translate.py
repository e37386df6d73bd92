"""Time the translation of a folder: as a plain float32 loop, and as `twofold translate` does it, files included.

    python benchmarks/translate.py --count 16 --backends torch onnxruntime --json translate.json

The folder holds smooth pictures as JPEGs of 256 pixels. The plain loop opens one with Pillow, runs the eager network in
float32 on torch's own count of threads, and saves a PNG with Pillow; ours is what the verb does after loading the model,
which is timed apart. Both have ResNet-9s of random weights. Rounds alternate; quote the ratio of the minima. Where
other processes keep the cores busy, `--threads 1 --clock cpu` counts the time that this process has worked.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
import plain

from twofold import hardware
from twofold.cli.translate import from_file_to_file
from twofold.networks.layers import initialise
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.translation.header import Header
from twofold.translation.model_file import save
from twofold.translation.sources import plan
from twofold.translation.translator import Translator

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=16, help="pictures in the folder")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--backends", nargs="+", default=["torch"])
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="torch's own choice unless given")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--malloc", action="store_true", help="leave the system's memory allocator as it is")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not given.malloc:
        hardware.keep_freed_memory()
    if given.threads:
        torch.set_num_threads(given.threads)
    result = vars(given) | {
        "json": None,
        "device": hardware.describe(torch.device("cpu")),
        "load": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as folder:
        result |= times(given, Path(folder))
    for name, value in result.items():
        if isinstance(value, float):
            print(f"{name:<24} {value:.4g}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))


def times(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Seconds a picture, and what each way takes to begin."""
    clock = CLOCKS[given.clock]
    pictures(folder / "in", given.count, given.size)
    network = ResnetGenerator(width=given.width)
    initialise(network)
    save(network, Header(describe(network), "ab", given.size), folder / "model.safetensors")
    sides: dict[str, Callable[[], None]] = {"plain": plain_side(folder, given.width)}
    found: dict[str, float] = {}
    for backend in given.backends:
        begun = clock()
        made = Translator.load(
            folder / "model.safetensors", device="cpu", backend=backend, precision=given.precision
        )
        found[f"{backend}_load_s"] = clock() - begun
        sides[backend] = our_side(folder, backend, made)
    took: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(given.rounds + 1):
        for name, run in sides.items():
            begun = clock()
            run()
            if round_:  # the first warms up
                took[name].append((clock() - begun) / given.count)
    for name, each in took.items():
        found |= {f"{name}_s": statistics.median(each), f"{name}_min_s": min(each)}
    for name in given.backends:
        found[f"{name}_ratio"] = found["plain_min_s"] / found[f"{name}_min_s"]
        found[f"{name}_ratio_of_medians"] = found["plain_s"] / found[f"{name}_s"]
    return found


def pictures(folder: Path, count: int, size: int) -> None:
    """Smooth noise, as easy for a JPEG as photographs are."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for place in range(count):
        coarse = rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size)).save(folder / f"{place}.jpg", quality=90)


def plain_side(folder: Path, width: int) -> Callable[[], None]:
    network = plain.resnet(width, 9).eval()
    (folder / "plain").mkdir()

    @torch.no_grad()
    def run() -> None:
        for path in sorted((folder / "in").iterdir()):
            pixels = np.array(Image.open(path).convert("RGB"))
            image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().contiguous() / 127.5 - 1
            made = ((network(image)[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            Image.fromarray(made.permute(1, 2, 0).numpy()).save(folder / "plain" / f"{path.stem}.png")

    return run


def our_side(folder: Path, backend: str, made: Translator) -> Callable[[], None]:
    jobs = plan([folder / "in"], folder / backend)

    def run() -> None:
        for one in from_file_to_file(made, jobs):
            assert not one.problem, one.problem

    return run


if __name__ == "__main__":
    main()
