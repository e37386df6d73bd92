"""`twofold translate`: files and folders through a model."""

import shlex
from json import dumps
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from twofold.cli.options import Bytes, Direction, Flag, Scale, Tiles, Whole
from twofold.cli.terminal import complain, emit, tracked
from twofold.errors import FAILED, SOME_FAILED, UsageError


def translate(
    model: Path,
    /,
    *inputs: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    direction: Direction | None = None,
    key: str | None = None,
    epoch: str | None = None,
    at: Scale = "trained",
    tiles: Tiles = "auto",
    tile_statistics: Literal["auto", "exact", "fast"] = "auto",
    memory: Bytes | None = None,
    format: Literal["png", "jpg", "webp", "bmp", "tif", "npy", "npz", "ppm", "pgm", "jp2", "avif", "same"]
    | None = None,
    quality: Whole | None = None,
    skip_existing: Flag = False,
    noise: Annotated[bool | None, Parameter(negative="--no-noise")] = None,
    seed: Whole = 0,
    best: Flag = False,
    json: Flag = False,
    device: str = "auto",
    precision: Literal["auto", "float32", "bf16"] = "auto",
    backend: Literal["torch", "openvino", "onnxruntime"] = "torch",
) -> int:
    """Translate images and folders of images; each result has the size of its source.

    Example: `twofold translate runs/h2z photos -o zebras`.

    Args:
        model: A run folder, a .safetensors model, an .onnx file of `twofold export`, or a checkpoint that
            `twofold import` takes, such as latest_net_G_A.pth or its folder.
        inputs: Image files, and folders with their subfolders.
        out: The folder for the results; for one image also a file name.
        direction: ab or ba; ab if not given. A model file has its own.
        key: Which state dict of a checkpoint that holds several, such as netG_A2B.
        epoch: Which checkpoint of a folder, such as 200; the latest if not given.
        at: The scale of the network's input: `trained` as in training, `native` for the image's own pixels,
            or the mean side in pixels.
        tiles: `auto` uses tiles for images that do not fit into the memory, `off` uses none, and a number uses tiles of
            that many pixels a side. A tile equals that part of the whole translation.
        tile_statistics: What the norms of a tile use: `exact` the statistics of the whole image, `fast` those of a
            sample of it; `auto` is fast where its error is below one of 255 levels, else exact.
        memory: The most memory that a translation may take, beside the model, such as 2GiB; all free memory if not
            given.
        format: The file format of the results; `same` as the source, where its format is written. If not given: png
            where it holds the model's depth and channels, else as the source if that holds them, else tif.
        quality: Quality of jpg, webp and avif results, 1 to 100.
        skip_existing: Leave results that exist as they are, and do not translate their sources.
        noise: Whether the network's dropout is on; on for pix2pix models if not given.
        seed: Seed of that noise.
        best: Use the run's best snapshot on held-out images, not the newest.
        json: Print JSON: the files `written` and `existing`, and `problems`, the reason for each source that failed.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto is bf16 where the machine computes it fast (a few levels of difference), else float32;
            always float32 for models of more than 8 bits.
        backend: The library that runs the network: openvino and onnxruntime run on a CPU, where installed.
    """
    if not inputs:
        before, after = shlex.join(["twofold", "translate", str(model)]), shlex.join(["-o", str(out)])
        raise UsageError(f"give images to translate: `{before} IMAGES {after}`")
    from twofold.exchange.load import load
    from twofold.hardware import keep_freed_memory
    from twofold.translation.tiles import Tiling

    keep_freed_memory()
    translator = load(
        model,
        direction=direction,
        key=key,
        epoch=epoch,
        device=device,
        noise=noise,
        seed=seed,
        best=best,
        precision=precision,
        backend=backend,
        notify=complain,
    )
    folder = out if out.is_dir() else out.parent
    translator.tiling = Tiling(tiles, memory, tile_statistics, folder if folder.is_dir() else None)
    translator.notify, translator.track = complain, tracked
    results = translator.folder(
        inputs,
        out,
        at=at,
        format=format,
        quality=quality,
        skip_existing=skip_existing,
        notify=complain,
        track=lambda jobs, total: tracked(jobs, total, "translating"),
    )
    done, failed = len(results.written), len(results.problems)
    total = done + failed + len(results.existing)
    place = results.written[0] if total == done == 1 else out
    existing = f"; {len(results.existing)} existed already" if results.existing else ""
    if json:
        problems = {str(source): problem for source, problem in results.problems.items()}
        emit(dumps(results._asdict() | {"problems": problems}, default=str))
    else:
        emit(f"{done} of {total} images translated to {place}{existing}")
    if failed:
        return FAILED if failed == total else SOME_FAILED
    return 0
