"""The machine: its devices, their speed in bf16, and their free memory."""

import ctypes
import os
import platform
from pathlib import Path

import torch

from twofold.errors import UsageError

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
    except RuntimeError as error:
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
    """Free bytes of this device's memory, or None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = proc("meminfo").get("MemAvailable")
    return None if available is None else int(available.split()[0]) * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or torch on a CPU, found no memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


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
    if platform.libc_ver()[0] == "glibc" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


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
