"""Translate files: threads decode and encode images while the network runs in the calling thread."""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice

from twofold.cpu import scratch
from twofold.errors import TwofoldError
from twofold.formats import images
from twofold.prefetch import prefetch
from twofold.translation.sources import Job
from twofold.translation.translator import At, Translator

DECODERS = 2
"""Threads that read images; one thread writes them."""


def translate_files(translator: Translator, jobs: Iterable[Job], at: At = "trained") -> Iterator[Job]:
    """Translate files to files and yield each job, in order, once its file is written.

    A file that cannot be read or translated is a job with a problem; the others go on.

    Args:
        jobs: sources and targets, as `sources.plan` makes them.
        at: the scale to translate at, as for `Translator.__call__`.

    Raises:
        TwofoldError: a result cannot be written. Files written before are complete.
    """

    def read(job: Job) -> Job:
        try:
            return job._replace(image=images.read(job.source, translator.channels))
        except TwofoldError as error:
            return job._replace(problem=str(error).removeprefix(f"{job.source}: "))

    def write(job: Job) -> Job:
        if job.image is not None:
            images.write(job.image, job.target)
        return job

    most = translator.batch_size(at)
    decoded = prefetch(read, jobs, threads=DECODERS, depth=DECODERS + most)
    translated = (job for batch in batches(decoded, most) for job in translate_batch(translator, batch, at))
    try:
        yield from prefetch(write, translated, threads=1, depth=1 + most)
    finally:
        scratch.release()


def batches(jobs: Iterable[Job], most: int) -> Iterator[list[Job]]:
    """Group neighbours of equal size, at most `most` of them; files that were not read are groups of their own."""
    for _, neighbours in groupby(jobs, lambda job: getattr(job.image, "shape", None)):
        while batch := list(islice(neighbours, most)):
            yield batch


def translate_batch(translator: Translator, batch: list[Job], at: At) -> list[Job]:
    """Translate images of one size together, or one by one where together they do not fit into memory."""
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
