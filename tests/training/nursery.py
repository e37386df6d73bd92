"""Runs trainings in processes of their own, which can be killed; a program, driven by `conftest.Nursery`.

It imports twofold once and forks for each request, a JSON line on standard input: {"tokens": a command line,
"log": a file for its output, "sabotage": [point, nth] or null, "seconds": to live, "end": a file that ends its
life when it appears, "ranks": how many processes}.
It answers with the exit status, of several processes with a JSON list of them.
"""

import errno
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401, torch's optimizers import it at their first step: once, before the forks

from twofold import distributed
from twofold.cli import app as cli
from twofold.training import records, start, state
from twofold.training.trainer import Trainer


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        children = [fork(request, environment) for environment in ranks(request["ranks"])]
        codes = [wait(child, request["seconds"], Path(request["end"])) for child in children]
        sys.stdout.write(json.dumps(codes if len(codes) > 1 else codes[0]) + "\n")
        sys.stdout.flush()


def ranks(count: int) -> list[dict[str, str]]:
    """What torchrun puts into the environment of each of so many processes."""
    if count == 1:
        return [{}]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    world = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{"RANK": str(rank), "LOCAL_RANK": str(rank), **world} for rank in range(count)]


def fork(request: dict[str, Any], environment: dict[str, str]) -> int:
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        run(request)
    return child


def wait(child: int, seconds: float, end: Path) -> int:
    """The exit status of a child, which is killed when its time is over, or a file appears."""
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline or end.exists():
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.005)


def run(request: dict[str, Any]) -> None:
    code = 70
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if request["sabotage"]:
            point, nth = request["sabotage"]
            SABOTAGES[point](nth)
        code = cli.run(request["tokens"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def at(nth: int, act: Callable[[], None]) -> Callable[[], None]:
    """A function that acts when it is called for the nth time."""
    calls = iter(range(1, 1_000_000))

    def maybe() -> None:
        if next(calls) == nth:
            act()

    return maybe


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def twice(number: int) -> None:
    """Signals itself as every process of a cluster's job is signalled: by the cluster, then by torchrun."""
    os.environ["TORCHELASTIC_RUN_ID"] = "1"  # which torchrun sets
    for _ in range(2):
        os.kill(os.getpid(), number)


def before(owner: Any, name: str, act: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def patched(*args: Any, **kwargs: Any) -> Any:
        act()
        return original(*args, **kwargs)

    setattr(owner, name, patched)


def after(owner: Any, name: str, act: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def patched(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        act()
        return result

    setattr(owner, name, patched)


def before_rename(nth: int) -> None:
    """Dies when a state is whole and about to get its name."""
    original, maybe = Path.rename, at(nth, die)

    def rename(path: Path, target: Path) -> Path:
        if path.name.startswith(state.ASIDE):
            maybe()
        return original(path, target)

    Path.rename = rename  # pyright: ignore[reportAttributeAccessIssue]


def after_rename(nth: int) -> None:
    """Dies when a state has its name and the oldest is still there."""
    original, maybe = Path.rename, at(nth, die)

    def rename(path: Path, target: Path) -> Path:
        result = original(path, target)
        if path.name.startswith(state.ASIDE):
            maybe()
        return result

    Path.rename = rename  # pyright: ignore[reportAttributeAccessIssue]


def small_files(nth: int) -> None:
    """No file over 100 kB from the nth step on, which a snapshot is not and a state is."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    after(Trainer, "step", at(nth, limit))


def half_written(nth: int) -> None:
    """Dies in the middle of a state's tensors."""
    original = state.save_file

    def torn(tensors: Any, path: Path) -> None:
        original(tensors, path)
        os.truncate(path, path.stat().st_size // 2)
        die()

    def switch() -> None:
        state.save_file = torn

    before(state, "store", at(nth, switch))


def full_disk(nth: int) -> None:
    """The nth state's tensors end half written, for want of space."""
    original = state.save_file

    def refuse() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    maybe = at(nth, refuse)

    def write(tensors: Any, path: Path) -> None:
        original(tensors, path)
        os.truncate(path, path.stat().st_size // 2)
        maybe()
        original(tensors, path)

    state.save_file = write


SABOTAGES: dict[str, Callable[[int], None]] = {
    "in state.store": half_written,
    "before rename": before_rename,
    "after rename": after_rename,
    "full disk": full_disk,
    "small files": small_files,
    "after step": lambda nth: after(Trainer, "step", at(nth, die)),
    "in metrics": lambda nth: after(records, "append", at(nth, die)),
    "in snapshot": lambda nth: before(records.model_file, "save", at(nth, die)),
    "before config": lambda nth: before(start, "write_atomically", at(nth, die)),
    "SIGINT": lambda nth: after(Trainer, "step", at(nth, lambda: os.kill(os.getpid(), signal.SIGINT))),
    "SIGTERM": lambda nth: after(Trainer, "step", at(nth, lambda: os.kill(os.getpid(), signal.SIGTERM))),
}
SABOTAGES |= {
    "killed rank": lambda rank: (
        after(Trainer, "step", at(3, die)) if distributed.local_rank() == rank else None
    ),
    "SIGINT twice": lambda nth: after(Trainer, "step", at(nth, lambda: twice(signal.SIGINT))),
    "SIGTERM twice": lambda nth: after(Trainer, "step", at(nth, lambda: twice(signal.SIGTERM))),
}
assert distributed.world() == 1

if __name__ == "__main__":
    serve()
