"""What surrounds a training: the run's lock, the signals that ask it to stop, the caller's global state."""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch.backends import cudnn

from twofold.errors import TwofoldError, UsageError

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""The environment's word on the memory of cuBLAS, on which its repeatability depends."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file `path` for this process alone.

    An advisory record lock: the system drops it when the process dies, however it dies, and forked children do
    not inherit it.

    Raises:
        UsageError: the file cannot be made.
        TwofoldError: another live process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a")
    except OSError as error:
        raise UsageError(f"cannot write to {path.parent} ({error.strerror}); give another --out") from error
    with opened as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TwofoldError(
                f"{path.parent} is being trained by another process; stop that one or give another --out"
            ) from error
        yield


class StopRequest:
    """Set by the first SIGINT or SIGTERM; the loop looks at it between steps."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def interruptible() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request; a second one acts at once, as it would without us.

    Outside the main thread signals cannot be caught, and the request is never set.
    """
    request = StopRequest()
    before = {}

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        request.asked = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:
        before = {}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def own_torch_state(threads: int, deterministic: bool, one_size: bool) -> Iterator[None]:
    """Set what torch has one of in a process, and give the caller's, with its random state, back.

    Args:
        threads: of a CPU.
        deterministic: on CUDA, take repeatable algorithms alone.
        one_size: the images have one size, so that on CUDA it pays to time which of cuDNN's algorithms is fastest for it.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    benchmark_before = cudnn.benchmark
    workspace_before = os.environ.get(CUBLAS_WORKSPACE)
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        cudnn.benchmark = one_size and not deterministic
        if deterministic and workspace_before is None:
            os.environ[CUBLAS_WORKSPACE] = ":4096:8"  # else torch refuses matrix products
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(deterministic_before)
            cudnn.benchmark = benchmark_before
            if workspace_before is None:
                os.environ.pop(CUBLAS_WORKSPACE, None)
