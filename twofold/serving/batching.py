"""The one thread that runs networks: requests of one model and one working size go through it together."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import torch

from twofold.cpu import scratch
from twofold.formats.contract import Pixels
from twofold.hardware import return_freed_memory
from twofold.translation.folder import translate_batch
from twofold.translation.sizes import At
from twofold.translation.sources import Job
from twofold.translation.translator import Translator

WINDOW = 0.003
"""Seconds that an image waits for others of its size while the network is idle."""


CLOSE_SECONDS = 5.0
"""How long the end of the program waits for a batch in the network."""


class Key(NamedTuple):
    """Images with equal keys can go through the network together."""

    translator: Translator
    at: At
    size: tuple[int, int]


class Done(NamedTuple):
    """A translation, or why there is none, and what it took.

    Attributes:
        image: (H, W, C) in the type of the target domain; None if there is a problem.
        queued, network: seconds that it waited, and that its batch was in the network.
    """

    image: Pixels | None
    problem: str
    queued: float
    network: float


class Waiting(NamedTuple):
    """An image in the queue."""

    image: Pixels
    since: float
    result: "Future[Done]"


class Batcher:
    """A queue of images and the thread that translates them, oldest first, in batches of equal keys.

    Args:
        on_batch: called from that thread with the size of each batch and its seconds in the network.
    """

    def __init__(self, on_batch: Callable[[int, float], object]) -> None:
        self.on_batch = on_batch
        self._queues: dict[Key, deque[Waiting]] = {}
        self._changed = threading.Condition()
        self._ended = False
        torch.get_num_threads()  # the default of threads that start later; see `twofold.prefetch`
        self._thread = threading.Thread(target=self._run, args=(torch.get_num_threads(),), daemon=True)
        self._thread.start()

    def submit(self, translator: Translator, image: Pixels, at: At) -> "Future[Done]":
        """Queue an image; cancelling the result before its batch starts takes the image out again."""
        key = Key(translator, at, translator.working_size(image.shape[0], image.shape[1], at))
        result: Future[Done] = Future()
        with self._changed:
            self._queues.setdefault(key, deque()).append(Waiting(image, time.monotonic(), result))
            self._changed.notify()
        return result

    def close(self) -> None:
        """End the thread after its present batch, and cancel what waits."""
        with self._changed:
            self._ended = True
            for each in (each for queue in self._queues.values() for each in queue):
                each.result.cancel()
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)

    def _run(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.get_num_threads()  # else the first operation takes the number that a codec's thread has set since
        last = None
        while batch := self._next():
            if last not in (None, batch[0].size):  # freed blocks rarely fit other sizes: the heap would grow
                scratch.release()
                return_freed_memory()
            last = batch[0].size
            self._translate(*batch)
            del batch  # frees the images while the thread waits

    def _next(self) -> tuple[Key, Sequence[Waiting]] | None:
        """The batch of the image that waits longest, once it is full or the window is over; None at the end."""
        with self._changed:
            while not self._ended:
                if not self._queues:
                    self._changed.wait()
                    continue
                key, queue = min(self._queues.items(), key=lambda each: each[1][0].since)
                most = key.translator.batch_size(key.at, key.size)
                left = queue[0].since + WINDOW - time.monotonic()
                if len(queue) < most and left > 0:
                    self._changed.wait(left)
                    continue
                batch = [queue.popleft() for _ in range(min(most, len(queue)))]
                if not queue:
                    del self._queues[key]
                if batch := [each for each in batch if each.result.set_running_or_notify_cancel()]:
                    return key, batch
            return None

    def _translate(self, key: Key, batch: Sequence[Waiting]) -> None:
        start = time.monotonic()
        try:
            jobs = [Job(Path(), Path(), each.image) for each in batch]
            jobs = translate_batch(key.translator, jobs, key.at)
        except Exception as error:  # a thread has nobody to raise it to
            for each in batch:
                each.result.set_exception(error)
            return
        took = time.monotonic() - start
        self.on_batch(len(batch), took)
        for each, job in zip(batch, jobs, strict=True):
            each.result.set_result(Done(job.image, job.problem, start - each.since, took))
