"""Time the translation of a folder, with reading and writing: by a plain float32 loop, and by `twofold translate`.

    python benchmarks/translate.py --count 16 --backends torch onnxruntime --record translate
    python benchmarks/translate.py --size 4000x3000 --width 16 --count 2 --rounds 1 --backends torch onnxruntime openvino

The folder holds smooth images as JPEGs, of 256 pixels by default, which are translated at their own size. The plain loop
reads one with Pillow, runs the eager network in float32 on torch's own number of threads, and saves a PNG with Pillow. Ours is what `twofold translate` does after it has
loaded the model; loading is timed separately. Both networks are a ResNet-9 with random weights. The sides run in
alternation; quote the ratio of the minima. If other processes keep the cores busy, `--threads 1 --clock cpu` counts the
CPU time of this process.
"""

import argparse
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
from record import measurement

from twofold import hardware
from twofold.networks.layers import initialise
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.translation.folder import translate_files
from twofold.translation.header import Header
from twofold.translation.model_file import save
from twofold.translation.sources import plan
from twofold.translation.translator import Translator

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=16, help="images in the folder")
    parser.add_argument("--size", type=sides, default=(256, 256), metavar="N|WxH", help="pixels")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--backends", nargs="+", default=["torch"])
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="default: torch's own number")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--malloc", action="store_true", help="leave the system's memory allocator as it is")
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    if not options.malloc:
        hardware.keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.precision == "auto":
        options.precision = "bf16" if hardware.fast_bf16(torch.device("cpu")) else "float32"
    facts = {"precision": options.precision, "threads": torch.get_num_threads()}
    with measurement(options.record, **facts) as figures, tempfile.TemporaryDirectory() as folder:
        figures |= times(options, Path(folder))
        for name, value in figures.items():
            print(f"{name:<24} {value:.4g}")


def sides(text: str) -> tuple[int, int]:
    """Width and height of "256" or "4000x3000"."""
    width, _, height = text.partition("x")
    return int(width), int(height or width)


def times(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Seconds an image of each side, and seconds to load the model for each backend."""
    clock = CLOCKS[options.clock]
    make_images(folder / "in", options.count, options.size)
    network = ResnetGenerator(width=options.width)
    initialise(network)
    save(network, Header(describe(network), "ab"), folder / "model.safetensors")
    sides: dict[str, Callable[[], None]] = {"plain": plain_side(folder, options.width)}
    found: dict[str, float] = {}
    for backend in options.backends:
        start = clock()
        translator = Translator.load(
            folder / "model.safetensors", device="cpu", backend=backend, precision=options.precision
        )
        found[f"{backend}_load_s"] = clock() - start
        sides[backend] = our_side(folder, backend, translator)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(options.rounds + 1):
        for name, run in sides.items():
            start = clock()
            run()
            if round_:  # the first warms up
                seconds[name].append((clock() - start) / options.count)
            if max(options.size) > 1024:
                hardware.return_freed_memory()  # else the next side finds too little for large images
    for name, each in seconds.items():
        found |= {f"{name}_s": statistics.median(each), f"{name}_min_s": min(each)}
    for name in options.backends:
        found[f"{name}_ratio"] = found["plain_min_s"] / found[f"{name}_min_s"]
        found[f"{name}_ratio_of_medians"] = found["plain_s"] / found[f"{name}_s"]
    return found


def make_images(folder: Path, count: int, size: tuple[int, int]) -> None:
    """JPEGs of smooth noise, which compress as well as photographs."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size).save(folder / f"{i}.jpg", quality=90)


def plain_side(folder: Path, width: int) -> Callable[[], None]:
    network = plain.resnet(width, 9).eval()
    (folder / "plain").mkdir()

    @torch.no_grad()
    def run() -> None:
        for path in sorted((folder / "in").iterdir()):
            pixels = np.array(Image.open(path).convert("RGB"))
            image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().contiguous() / 127.5 - 1
            output = ((network(image)[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            Image.fromarray(output.permute(1, 2, 0).numpy()).save(folder / "plain" / f"{path.stem}.png")

    return run


def our_side(folder: Path, backend: str, translator: Translator) -> Callable[[], None]:
    jobs = plan([folder / "in"], folder / backend)

    def run() -> None:
        for one in translate_files(translator, jobs, "native"):
            assert not one.problem, one.problem

    return run


if __name__ == "__main__":
    main()
