"""`twofold translate`: files and folders through a model."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from twofold.cli.options import Direction, Flag, Scale, Whole
from twofold.cli.terminal import complain, emit, tracked
from twofold.errors import FAILED, SOME_FAILED, UsageError


def translate(
    model: Path,
    /,
    *inputs: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    direction: Direction | None = None,
    at: Scale = "trained",
    format: Literal["png", "jpg", "webp", "npy"] | None = None,
    noise: Annotated[bool | None, Parameter(negative="--no-noise")] = None,
    seed: Whole = 0,
    best: Flag = False,
    device: str = "auto",
    precision: Literal["auto", "float32", "bf16"] = "auto",
    backend: Literal["torch", "openvino", "onnxruntime"] = "torch",
) -> int:
    """Translate images and folders of images; each result has the size of its source.

    Args:
        model: A run folder, or a .safetensors model.
        inputs: Image files, and folders with their subfolders.
        out: The folder for the results; for one image also a file name.
        direction: ab or ba; ab if not given. A model file has its own.
        at: The scale of the network's input: `trained` as in training, `native` for the image's own pixels,
            or the mean side in pixels.
        format: The file format of the results; png if not given, npy for channel counts that no picture has.
        noise: Whether the network's dropout is on; on for pix2pix models if not given.
        seed: Seed of that noise.
        best: Use the run's best snapshot on held-out images, not the newest.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto is bf16 where the machine computes it fast (a few levels of difference), else float32.
        backend: The library that runs the network: openvino and onnxruntime run on a CPU, where installed.
    """
    if not inputs:
        raise UsageError(f"give images to translate: `twofold translate {model} IMAGES -o {out}`")
    from twofold.hardware import keep_freed_memory
    from twofold.translation.folder import translate_files
    from twofold.translation.sources import plan
    from twofold.translation.translator import Translator

    keep_freed_memory()
    translator = Translator.load(
        model,
        direction=direction,
        device=device,
        noise=noise,
        seed=seed,
        best=best,
        precision=precision,
        backend=backend,
    )
    suffix = format or ("png" if translator.out_channels in (1, 3, 4) else "npy")
    jobs = plan(inputs, out, f".{suffix}")
    jobs[0].target.parent.mkdir(parents=True, exist_ok=True)
    skipped = 0
    for job in tracked(translate_files(translator, jobs, at), len(jobs), "translating"):
        if job.problem:
            skipped += 1
            complain(f"skipped {job.source}: {job.problem}")
    place = jobs[0].target if len(jobs) == 1 else out
    emit(f"{len(jobs) - skipped} of {len(jobs)} images translated to {place}")
    if skipped:
        return SOME_FAILED if skipped < len(jobs) else FAILED
    return 0
