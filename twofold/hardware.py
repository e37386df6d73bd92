"""The machine: its devices, their speed in bf16, and their free memory."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from twofold.errors import TwofoldError, UsageError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""


def pick_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """The device called `name`; "auto" is a CUDA GPU, else Apple's, else the CPU.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return pick_device(best, local_rank)
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"there is no device {name!r}; use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda":
        place = local_rank if device.index is None else device.index
        if place >= torch.cuda.device_count():
            raise UsageError(
                f"{name} is not on this machine ({torch.cuda.device_count()} CUDA devices); use cpu"
            )
        return torch.device("cuda", place)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("mps is not on this machine; use cpu")
    if device.type not in ("cpu", "mps"):
        raise UsageError(f"twofold does not run on {name!r}; use auto, cpu, cuda or mps")
    return device


def fast_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are much faster than in float32: tensor cores, AMX, or AVX-512 BF16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        return bool(can.get("amx_bf16") or can.get("avx512_bf16"))
    return False


def free_memory(device: torch.device) -> int | None:
    """Free bytes of this device's memory, or None where the system does not say.

    On a GPU, what torch holds in its cache is free. On a CPU, the limits of the control groups (version 1 and 2) count,
    which containers and job schedulers set.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    available = proc("meminfo").get("MemAvailable")
    rooms = [*cgroup_rooms(), *([int(available.split()[0]) * 1024] if available else [])]
    return max(0, min(rooms)) if rooms else None


CGROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""For control groups of version 2 and 1: the folder of their tree, the files of the limit and of the use, and the row of
memory.stat that counts cached files, which the system drops when memory is needed."""


def cgroup_rooms(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Bytes left under the memory limit of each control group that this process is in."""
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return
    for controllers, path in ((names, path) for _, names, path in groups if {*names.split(",")} & {*CGROUPS}):
        tree, limit, used, cached = CGROUPS["memory" if controllers else ""]
        folder = root / tree / path.lstrip("/")
        for place in (folder, *folder.parents):  # in a container, the tree begins at its own group
            if place == root.parent:
                break
            try:
                most, now = (int((place / name).read_text()) for name in (limit, used))
                rows = (line.split() for line in (place / "memory.stat").read_text().splitlines())
                yield most - now + int(dict(rows).get(cached, 0))
            except (OSError, ValueError):  # no such group, or no limit ("max")
                continue


@contextmanager
def explained_out_of_memory(message: str) -> Iterator[None]:
    """Turn the error of a device, or of torch on a CPU, that finds no memory into `message`.

    Raises:
        TwofoldError: there was no memory.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise TwofoldError(message) from error
        raise


def proc(name: str) -> dict[str, str]:
    """The rows "name: value" of a file in /proc; none where the system has no such file."""
    try:
        lines = Path("/proc", name).read_text().splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def keep_freed_memory() -> None:
    """Make glibc keep the memory that this process frees; elsewhere, and on a GPU, nothing changes.

    By default large blocks go back to the system, and each new one costs pages to clear and map: a tenth to a third of
    the time of a convolutional network on a CPU. This is a setting of the whole process, so programs call it, not
    libraries. An environment with MALLOC_MMAP_THRESHOLD_ is left alone: 2000000 needs four fifths of the memory at
    256 px and a quarter more time.
    """
    global _keeps_blocks_up_to
    if is_glibc() and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        _keeps_blocks_up_to = 2**30
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, _keeps_blocks_up_to)
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


LARGE_BLOCK = 2**22
"""Bytes from which a block is large for `large_blocks_returned`."""

_keeps_blocks_up_to: int | None = None


@contextmanager
def large_blocks_returned() -> Iterator[None]:
    """Inside, large blocks go back to the system when they are freed, also after `keep_freed_memory`.

    Blocks that are kept lie in pieces which the next larger one does not fit: a translation of 1024² pixels took up to
    1.9 times the memory of its tensors.
    """
    if _keeps_blocks_up_to is None:
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, _keeps_blocks_up_to)


def return_freed_memory() -> None:
    """Give memory that this process has freed, and keeps for itself, back to the system; on glibc."""
    if is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def describe(device: torch.device) -> dict[str, str | int]:
    """Names and versions worth keeping beside a result."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": proc("cpuinfo").get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
