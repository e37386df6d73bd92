"""The verb `translate`: folders through a model, decoding and encoding in threads of their own."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from cyclopts import Parameter

from twofold.cli.terminal import complain, emit, tracked
from twofold.cli.verbs import Direction, Flag, Scale, Whole
from twofold.errors import FAILED, SOME_FAILED, TwofoldError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twofold.translation.sources import Job
    from twofold.translation.translator import Translator


class Translated(NamedTuple):
    """An image on its way from file to file."""

    job: "Job"
    image: "NDArray[np.uint8] | None"
    problem: str = ""


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
    """Translate images and folders of images; each comes back at its own size.

    Parameters
    ----------
    model
        A run folder, or a .safetensors model.
    inputs
        Image files and folders; folders are searched with their subfolders.
    out
        The folder for the results; for one image also a file name.
    direction
        ab or ba; ab if not given. A model file has its own.
    at
        The scale the network works at: `trained` as it saw images in training, `native` at their own pixels, or
        a number of pixels for the mean side.
    format
        What the results are written as; png if not given, npy where no picture has so many channels.
    noise
        Whether the network's dropout is on; it is for pix2pix models, whose noise it is.
    seed
        Of that noise.
    best
        A run's best snapshot on held-out images, in place of the newest.
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        auto is bf16 where the machine computes it fast, a few levels off, else float32.
    backend
        What runs the network: openvino and onnxruntime, where installed, on a CPU.
    """
    from twofold.hardware import keep_freed_memory
    from twofold.translation.sources import plan
    from twofold.translation.translator import Translator

    if not inputs:
        raise UsageError(f"nothing to translate: `twofold translate {model} IMAGES -o {out}`")
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
    problems = 0
    for one in tracked(from_file_to_file(translator, jobs, at), len(jobs), "translating"):
        if one.problem:
            problems += 1
            complain(f"skipped {one.job.source}: {one.problem}")
    place = jobs[0].target if len(jobs) == 1 else out
    emit(f"{len(jobs) - problems} of {len(jobs)} images translated to {place}")
    if problems:
        return SOME_FAILED if problems < len(jobs) else FAILED
    return 0


def from_file_to_file(
    translator: "Translator", jobs: Sequence["Job"], at: int | Literal["trained", "native"] = "trained"
) -> Iterator[Translated]:
    """Each job once it is done, in order, or with what is wrong with its file.

    Two threads read ahead and one writes behind, a few images each; the network runs in this one.

    Raises:
        TwofoldError: a result cannot be written; what was written before is whole.
    """
    from twofold.data.prefetch import prefetch
    from twofold.formats import images

    def read(job: "Job") -> Translated:
        try:
            return Translated(job, images.read(job.source, translator.channels))
        except TwofoldError as error:
            return Translated(job, None, str(error).removeprefix(f"{job.source}: "))

    def write(one: Translated) -> Translated:
        if one.image is not None:
            images.write(one.image, one.job.target)
        return one

    together = translator.batch_size(at)
    ready = prefetch(read, jobs, threads=2, depth=2 + together)
    done = (one for batch in batches(ready, together) for one in through(translator, batch, at))
    return prefetch(write, done, threads=1, depth=1 + together)


def batches(images: Iterator[Translated], most: int) -> Iterator[list[Translated]]:
    """Neighbours of one size together, at most so many; files that cannot be read have none, and go alone."""
    batch: list[Translated] = []
    for one in images:
        if batch and (len(batch) == most or shape(one) != shape(batch[0]) or one.image is None):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def shape(one: Translated) -> tuple[int, ...] | None:
    return None if one.image is None else one.image.shape


def through(
    translator: "Translator", batch: list[Translated], at: int | Literal["trained", "native"]
) -> list[Translated]:
    """The translations of images of one size; one by one where they do not fit together."""
    given = [one.image for one in batch if one.image is not None]
    if not given:
        return batch
    try:
        made = translator.arrays(given, at)
    except TwofoldError as error:
        if len(batch) == 1:
            return [batch[0]._replace(image=None, problem=str(error))]
        return [done for one in batch for done in through(translator, [one], at)]
    return [one._replace(image=image) for one, image in zip(batch, made, strict=True)]
