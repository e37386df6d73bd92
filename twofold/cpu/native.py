"""C kernels for Winograd's transforms, bf16 norms and AMX filter gradients, compiled on first use if there is a compiler.

They are kept in the user's cache. Results differ from torch's in the last bits.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twofold.cpu import kernel_source
from twofold.cpu.scratch import scratch
from twofold.cpu.winograd_matrices import Grid, Matrix

LANES = 8
"""Channels of a vector: the kernels take multiples of it."""

COMPILERS = ("gcc", "cc")
"""Not clang, whose threads would be a second set beside those of torch."""

FLAGS = ("-O2", "-shared", "-fPIC", "-fopenmp")
"""OpenMP's functions are those that torch has loaded, so its threads are torch's as well."""

FEATURES = {"AVX2": ("-mavx2", "-mfma"), "AVX512": ("-mavx2", "-mfma")}
"""By what torch finds this processor to have. Not -march=native, for homes are shared among machines."""

AMX = (*("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16"), "-mamx-tile", "-mamx-bf16")
"""In addition, where the processor multiplies tiles of bf16; GCC 11 is the first compiler that knows them."""

FAILURES = (OSError, RuntimeError, AttributeError, subprocess.SubprocessError)
"""No home, a full disk, another compiler, a library without the functions."""

Numbers = ctypes.c_int64 * 11
"""The struct Work of c/common.h or the shorter Filter of c/filters.h, by position; what is not given is zero."""


class Kernels:
    """The C functions, for tensors in one piece: images (N, H, W, C), tiles (k², tiles, C), statistics (N, C).

    Attributes:
        amx: `filter_gradient` is among them, and this process may use it.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.amx = bool(library.tiles_allowed())

    def to_tiles(self, images: Tensor, matrix: Matrix, grid: Grid, made: Tensor) -> None:
        self.call(f"to_{matrix.name}", (images, made), (*images.shape, *grid))

    def from_tiles(self, values: Tensor, matrix: Matrix, grid: Grid, images: Tensor) -> None:
        """The images may be some channels of others."""
        overlap = len(matrix.values) > grid.step
        numbers = (*images.shape, *grid, overlap, images.stride(2))
        self.call(f"from_{matrix.name}", (values, images), numbers)

    def normed(self, images: Tensor, made: Tensor, mean: Tensor, scale: Tensor, eps: float) -> None:
        """Instance norm of bf16 images; fills `made`, and mean and 1 / deviation in float32."""
        self.call("normed", (images, made, mean, scale), images.shape, ctypes.c_float(eps))

    def normed_back(
        self, gradient: Tensor, images: Tensor, mean: Tensor, scale: Tensor, made: Tensor
    ) -> None:
        self.call("normed_back", (gradient, images, mean, scale, made), images.shape)

    def filter_gradient(self, small: Tensor, large: Tensor, stride: int, made: Tensor) -> None:
        """Of a convolution of `large`, (N, H, W, C), to `small`, (N, h, w, M), in bf16: float32 taps (M, k, k, C)."""
        n, h, w, m = small.shape
        pixels, kernel = n * h * w, made.shape[1]
        rows, wide, deep = (-(-x // 32) * 32 for x in (m, kernel * large.shape[3], pixels))
        left = scratch("left", (rows, deep), small.dtype)
        sums = scratch("sums", (rows, kernel * wide), torch.float32)
        places = scratch("places", (pixels,), torch.int32)
        numbers = (n, h, w, m, *large.shape[1:], kernel, stride)
        self.call("filter_gradient", (small, large, made, left, sums, places), numbers)

    def call(self, name: str, tensors: Iterable[Tensor], numbers: Iterable[int], *more: Any) -> None:
        pointers = (ctypes.c_void_p(x.data_ptr()) for x in tensors)
        getattr(self.library, name)(*pointers, Numbers(*numbers), *more)


def available() -> bool:
    """Whether C kernels can be had on this machine; the first call compiles them, in a few seconds."""
    return kernels() is not None


@cache
def kernels() -> Kernels | None:
    """The kernels from this user's cache, compiled if they are not there yet; None where that is impossible."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None or platform.system() != "Linux":
        return None
    for features in processor_flags():
        # A cache may not be writable or trusted; what is loaded stays when a temporary folder is gone.
        for place in (lambda: nullcontext(cache_folder()), tempfile.TemporaryDirectory):
            try:
                with place() as folder:
                    return from_folder(Path(folder), [compiler, *FLAGS, *features])
            except FAILURES:
                continue
    return None


def processor_flags() -> Iterator[Sequence[str]]:
    """Flags for the compiler, the best first; it may not know the first."""
    common = FEATURES.get(torch.backends.cpu.get_cpu_capability(), ())
    if common and torch.cpu.get_capabilities().get("amx_bf16"):
        yield (*common, *AMX)
    yield common


def from_folder(folder: Path, command: list[str]) -> Kernels:
    """The kernels in a folder of this user's alone, compiled by that command if they are not there yet."""
    code = kernel_source.source()
    version = subprocess.run([command[0], "--version"], check=True, capture_output=True, timeout=60).stdout
    parts = (kernel_source.included(), code, platform.machine(), *command, version.decode(errors="replace"))
    name = "kernels-" + digest("\n".join(parts).encode())
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not is_ours(folder):
        raise OSError(f"{folder} belongs to another user or others may write to it")
    library = next(filter(is_whole, folder.glob(f"{name}-*.so")), None) or build(folder, name, command, code)
    return Kernels(ctypes.CDLL(str(library)))


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "twofold" / "kernels"


def is_ours(path: Path) -> bool:
    """Whether a file or folder is this user's, and nobody else may write to it; false for links, whose mode is 0o777."""
    found = path.lstat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def is_whole(library: Path) -> bool:
    """Whether a library is ours, and the one that was built: loading a damaged one would end Python."""
    return is_ours(library) and library.stem.endswith(f"-{digest(library.read_bytes())}")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def build(folder: Path, name: str, command: list[str], code: str) -> Path:
    """Compile aside and rename to `name` and the library's own hash, so that it is whole, whoever else compiles it now."""
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        made = Path(aside) / "kernels.so"
        made.with_suffix(".c").write_text(code, encoding="utf-8")
        compiling = [*command, f"-I{kernel_source.FOLDER}", "-o", made.name, "kernels.c"]
        subprocess.run(compiling, cwd=aside, check=True, capture_output=True, timeout=120)
        made.chmod(0o600)
        return made.replace(folder / f"{name}-{digest(made.read_bytes())}.so")
