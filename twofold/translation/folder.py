"""Translate files: threads decode and encode images while the network runs in the calling thread."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from twofold.cpu import scratch
from twofold.errors import TwofoldError
from twofold.formats import images
from twofold.prefetch import prefetch
from twofold.translation import inputs, streaming, tiles
from twofold.translation.header import contract_in_words
from twofold.translation.sources import Job, check_quality, check_targets, plan, suffixes
from twofold.translation.windows import is_tiff

if TYPE_CHECKING:
    from twofold.translation.translator import At, Translator

DECODERS, ENCODERS = 2, 2
"""Threads that read images, and that write them."""

CLIPPED = 0.01
"""Share of the values of an image, outside the range of the model, above which a line says so."""

SHOWN = 10
"""Files that are not translated, each with a line of its own; of the others their number is printed."""

Notify = Callable[[str], None]


class Results(NamedTuple):
    """The outcome for each image of a folder.

    Attributes:
        written: the files of the translations.
        existing: files that existed and were left as they are.
        problems: why each of the other sources was not translated.
    """

    written: list[Path]
    existing: list[Path]
    problems: dict[Path, str]


def translate_folder(
    translator: "Translator",
    given: Sequence[Path],
    out: Path,
    at: "At",
    format: str | None,
    quality: int | None,
    skip_existing: bool,
    *,
    notify: Notify | None,
    track: Callable[[Iterator[Job], int], Iterable[Job]] | None,
) -> Results:
    """See `Translator.folder`."""
    suffix = suffixes(translator.target, format)
    if format is None:  # a large TIFF file can be written part by part as TIFF only
        best, suffix = suffix, lambda source: ".tif" if streaming.large_size(source) else best(source)
    jobs = plan(given, out, suffix, format)
    check_targets(jobs, translator.target)
    check_quality(jobs, quality)
    if isinstance(translator.tiling.tiles, int):
        tiles.checked_tile(translator, translator.tiling.tiles)
    existing = [job.target for job in jobs if job.target.is_file()] if skip_existing else []
    done = {*existing}
    jobs = [job for job in jobs if job.target not in done]
    results = Results([], existing, {})
    if not jobs:
        return results
    jobs[0].target.parent.mkdir(parents=True, exist_ok=True)
    finished = translate_files(translator, jobs, at, quality=quality, notify=notify)
    try:
        for job in track(finished, len(jobs)) if track else finished:
            if job.problem:
                results.problems[job.source] = job.problem
                if notify and len(results.problems) <= SHOWN:
                    notify(f"skipped {job.source}: {job.problem}")
            else:
                results.written.append(job.target)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how_to_go_on(results, jobs, skip_existing)) from None
    if notify and (more := len(results.problems) - SHOWN) > 0:
        notify(f"skipped {more:,} more files; --json lists each of them")
    return results


def how_to_go_on(results: Results, jobs: Sequence[Job], skip_existing: bool) -> str:
    """What an interrupted translation has finished, and what the next one has to do."""
    done, total = len(results.written), len(jobs)
    add = "" if skip_existing else " with --skip-existing"
    files = f"{done:,} of {total:,} images are translated; the same command{add} translates the others"
    rows = next((rows for job in jobs if (rows := streaming.kept(job.target))), "")
    lines = [files if total > 1 else "", rows]
    return "; ".join(filter(None, lines)) or "nothing is written"


def translate_files(
    translator: "Translator",
    jobs: Iterable[Job],
    at: "At" = "trained",
    *,
    quality: int | None = None,
    notify: Notify | None = None,
) -> Iterator[Job]:
    """Translate files to files and yield each job, in order, once its file is written.

    A file that cannot be read or translated is a job with a problem; the others go on.

    Args:
        jobs: sources and targets, as `sources.plan` makes them.
        at: the scale to translate at, as for `Translator.__call__`.
        quality: of jpg, webp and avif, 1 to 100.
        notify: gets a line at the first image of several frames, the first with values outside the model's range, and
            the first of which the network sees less than half of a side.

    Raises:
        TwofoldError: a result cannot be written. Files written before are complete.
    """
    target, layout = translator.target, translator.header.layout
    palette = target.labels.palette if target.labels else ()

    def read(job: Job) -> Job:
        size = streaming.large_size(job.source) if is_tiff(job.target) and not translator.header.lab else None
        in_parts = size is not None and translator.working_size(*size, at) == size
        if in_parts:
            return job._replace(large=size, frames=images.inspect(job.source).frames)
        return read_job(translator, job)

    def write(job: Job) -> Job:
        if job.image is not None:
            is_array = job.target.suffix.lower() in (".npy", ".npz")
            pixels = np.moveaxis(job.image, 2, 0) if is_array and layout == "chw" else job.image
            images.write(pixels, job.target, job.metadata, alpha=job.alpha, palette=palette, quality=quality)
        return job

    most = translator.batch_size(at)
    decoded = prefetch(read, jobs, threads=DECODERS, depth=DECODERS + most)
    if notify:
        decoded = with_notes(translator, decoded, at, notify)
    grouped = batches(translator, decoded, at)
    translated = (job for batch in grouped for job in translate_batch(translator, batch, at))
    try:
        yield from prefetch(write, translated, threads=ENCODERS, depth=ENCODERS + most)
    finally:
        scratch.release()


def with_notes(translator: "Translator", jobs: Iterable[Job], at: "At", notify: Notify) -> Iterator[Job]:
    """The same jobs; one line for the first image that is not used whole, of each way in which it is not."""
    notes = [frames_note, values_note, *([scale_note] if at == "trained" else [])]
    for job in jobs:
        for note_of in [*notes]:
            if note := note_of(translator, job):
                notify(f"{job.source}: {note}")
                notes.remove(note_of)
        yield job


def frames_note(_: "Translator", job: Job) -> str:
    only = f"it has {job.frames} frames: only the first is used, as in every such file"
    return only if job.frames > 1 else ""


def values_note(translator: "Translator", job: Job) -> str:
    """A line for an image that the range of the model clips; label maps have no range."""
    source = translator.source
    if job.image is None or source.found == "dtype" or source.is_labels:
        return ""
    share = ((job.image < np.array(source.low)) | (job.image > np.array(source.high))).mean((0, 1)).max()
    clipped = f"outside those of the model ({contract_in_words(source)}) and are clipped"
    return f"{100 * share:.0f} % of its values are {clipped}" if share > CLIPPED else ""


def scale_note(translator: "Translator", job: Job) -> str:
    if job.image is None:
        return ""
    height, width = job.image.shape[:2]
    rows, columns = translator.working_size(height, width)
    factor = max(height / rows, width / columns)
    seen = f"the network sees {columns}×{rows} of {width}×{height} pixels, as in training"
    enlarged = f"its output is enlarged {factor:.1f} times; --at native uses every pixel"
    return f"{seen}, and {enlarged}" if factor > 2 else ""


def batches(translator: "Translator", jobs: Iterable[Job], at: "At") -> Iterator[list[Job]]:
    """Group neighbours of equal working size; files that are read in parts, or were not read, are alone."""

    def working_size(job: Job) -> tuple[int, int] | None:
        if job.image is None:
            return None
        height, width = job.image.shape[:2]
        return translator.working_size(height, width, at)

    for size, neighbours in groupby(jobs, working_size):
        most = translator.batch_size(at, size) if size else 1
        while batch := list(islice(neighbours, most)):
            yield batch


def translate_batch(translator: "Translator", batch: list[Job], at: "At") -> list[Job]:
    """Translate images of one working size together, or one by one where together they do not fit into memory."""
    if batch[0].large:
        return [translate_large(translator, job, at) for job in batch]
    given = [job.image for job in batch if job.image is not None]
    if not given:
        return batch
    try:
        translated = translator.arrays(given, at)
    except TwofoldError as error:
        if len(batch) == 1:
            return [batch[0]._replace(image=None, problem=str(error))]
        return [done for job in batch for done in translate_batch(translator, [job], at)]
    return [job._replace(image=image) for job, image in zip(batch, translated, strict=True)]


def translate_large(translator: "Translator", job: Job, at: "At") -> Job:
    """Translate a large TIFF file part by part; as a whole where it fits into the memory."""
    height, width = job.large or (0, 0)
    try:
        tile = tiles.tile_for(translator, height, width, 1, held=width * tiles.LARGEST)
        if tile is None:
            (done,) = translate_batch(translator, [read_job(translator, job._replace(large=None))], at)
            return done
        streaming.translate(translator, job, tile)
    except TwofoldError as error:
        problem = str(error).removeprefix(f"{job.source}: ")
        return job._replace(problem="; ".join(filter(None, [problem, streaming.kept(job.target)])))
    return job


def read_job(translator: "Translator", job: Job) -> Job:
    """The job with its image, alpha and metadata, or with the reason why the file cannot be read."""
    layout = translator.header.layout
    try:
        decoded = inputs.decode(job.source, translator.source, translator.target, layout)
    except TwofoldError as error:
        return job._replace(problem=str(error).removeprefix(f"{job.source}: "))
    return job._replace(**decoded._asdict())
