"""Translate files: threads decode and encode images while the network runs in the calling thread."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.cpu import scratch
from twofold.errors import TwofoldError
from twofold.formats import images
from twofold.prefetch import prefetch
from twofold.translation.sources import Job
from twofold.translation.translator import At, Translator

DECODERS = 2
"""Threads that read images; one thread writes them."""


class Result(NamedTuple):
    """One file of a bulk translation.

    Attributes:
        job: where the image comes from and where its translation goes.
        image: (H, W, channels) uint8, first as read and then as translated; None where there is a problem.
        problem: why this file was not translated; empty if it was.
    """

    job: Job
    image: NDArray[np.uint8] | None
    problem: str = ""


def translate_files(translator: Translator, jobs: Iterable[Job], at: At = "trained") -> Iterator[Result]:
    """Translate files to files and yield a result for each job, in order, once its file is written.

    A file that cannot be read or translated is a result with a problem; the others go on.

    Args:
        jobs: sources and targets, as `sources.plan` makes them.
        at: the scale to translate at, as for `Translator.__call__`.

    Raises:
        TwofoldError: a result cannot be written. Files written before are complete.
    """

    def read(job: Job) -> Result:
        try:
            return Result(job, images.read(job.source, translator.channels))
        except TwofoldError as error:
            return Result(job, None, str(error).removeprefix(f"{job.source}: "))

    def write(result: Result) -> Result:
        if result.image is not None:
            images.write(result.image, result.job.target)
        return result

    batch_size = translator.batch_size(at)
    decoded = prefetch(read, jobs, threads=DECODERS, depth=DECODERS + batch_size)
    translated = (
        result for batch in batches(decoded, batch_size) for result in translate_batch(translator, batch, at)
    )
    try:
        yield from prefetch(write, translated, threads=1, depth=1 + batch_size)
    finally:
        scratch.release()


def batches(results: Iterable[Result], most: int) -> Iterator[list[Result]]:
    """Group neighbours of equal size, at most `most` of them; a file that was not read is a batch of its own."""
    batch: list[Result] = []
    for result in results:
        if batch and (len(batch) == most or result.image is None or shape(result) != shape(batch[0])):
            yield batch
            batch = []
        batch.append(result)
    if batch:
        yield batch


def shape(result: Result) -> tuple[int, ...] | None:
    return None if result.image is None else result.image.shape


def translate_batch(translator: Translator, batch: list[Result], at: At) -> list[Result]:
    """Translate images of one size together, or one by one where together they do not fit into memory."""
    given = [result.image for result in batch if result.image is not None]
    if not given:
        return batch
    try:
        translated = translator.arrays(given, at)
    except TwofoldError as error:
        if len(batch) == 1:
            return [batch[0]._replace(image=None, problem=str(error))]
        return [done for result in batch for done in translate_batch(translator, [result], at)]
    return [result._replace(image=image) for result, image in zip(batch, translated, strict=True)]
