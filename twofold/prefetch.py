"""Compute items in threads before they are needed, and yield them in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def prefetch(
    function: Callable[[T], R], items: Iterable[T], threads: int, depth: int
) -> Generator[R, None, None]:
    """Yield ``function(item)`` for each item in order, with at most `depth` results computed ahead.

    An exception of `function` is raised here. It ends the threads, as closing the generator does.
    """
    source = iter(items)
    # A thread that first asks for its number of threads after a worker was given one would get one as well.
    torch.get_num_threads()
    # One torch thread in each: a second OpenMP team makes the training's own team sleep, and it is a quarter slower.
    pool = ThreadPoolExecutor(threads, "twofold-data", torch.set_num_threads, (1,))
    try:
        pending = deque(pool.submit(function, item) for item in islice(source, depth))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(source, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
