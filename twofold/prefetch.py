"""Compute items in threads before they are needed, and yield them in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def prefetch(
    function: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    depth: int,
    *,
    cost: Callable[[T], float] = lambda _: 0,
    limit: float = 0,
) -> Generator[R, None, None]:
    """Yield ``function(item)`` for each item in order, with at most `depth` results computed ahead.

    An exception of `function` is raised here. It ends the threads, as closing the generator does.

    Args:
        cost: of an item and its result, from its start until the result after it is requested.
        limit: the largest sum of costs at a time. An item of a larger cost is computed alone.
    """
    source = iter(items)
    # A thread that first asks for its number of threads after a worker was given one would get one as well.
    torch.get_num_threads()
    # One torch thread in each: a second OpenMP team makes the training's own team sleep, and it is a quarter slower.
    pool = ThreadPoolExecutor(threads, "twofold-data", torch.set_num_threads, (1,))
    pending: deque[tuple[Future[R], float]] = deque()
    following: list[T] = []  # the next item, where its cost did not fit yet
    held = 0.0

    def submit() -> None:
        nonlocal following, held
        while len(pending) < depth and (following := following or list(islice(source, 1))):
            price = cost(following[0])
            if held and held + price > limit:
                return
            pending.append((pool.submit(function, following.pop()), price))
            held += price

    try:
        submit()
        while pending:
            future, price = pending.popleft()
            future.result()
            submit()
            yield future.result()
            del future  # frees the result
            held -= price
            submit()
    finally:
        pool.shutdown(cancel_futures=True)
