"""The work of `tiles`, instance norms and blurs in C, compiled once by this machine's own compiler, where it has one.

A transform reads a tile and writes another: as a kernel that is one pass over memory, by torch's operations six. For
float32 on a CPU, norms and blurs for bf16 as well, and channels in eights; the results differ from torch's in the last bits.
`sources` has the code.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from twofold.networks import sources
from twofold.networks.scratch import scratch
from twofold.networks.toom_cook import Matrix

if TYPE_CHECKING:
    from twofold.networks.tiles import Grid

LANES = 8
"""Floats of a vector."""

COMPILERS = ("gcc", "cc")
"""Not clang, whose threads would be a second set beside those of torch."""

FLAGS = ("-O2", "-shared", "-fPIC", "-fopenmp")
"""OpenMP's functions are those that torch has loaded, so its threads are torch's as well."""

FEATURES = {"AVX2": ("-mavx2", "-mfma"), "AVX512": ("-mavx2", "-mfma")}
"""By what torch finds this processor to have. Not -march=native, for homes are shared among machines."""

AMX = (*("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16"), "-mamx-tile", "-mamx-bf16")
"""As well, where it multiplies tiles of bf16; GCC 11 is the first that can."""

FAILURES = (OSError, RuntimeError, subprocess.SubprocessError)
"""No home, a full disk, another compiler."""

_allowed = True


class Work(ctypes.Structure):
    """The struct of that name in c/common.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in [
            "n",
            "height",
            "width",
            "channels",
            "step",
            "edge",
            "reflect",
            "down",
            "right",
            "stride",
            "add",
            "of",
        ]
    )


class Product(ctypes.Structure):
    """The struct of that name in c/products.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ["m", "k", "n", "add"])


class Filter(ctypes.Structure):
    """The struct of that name in c/filters.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64) for name in ["n", "h", "w", "m", "height", "width", "c", "kernel", "stride"]
    )


class Kernels:
    """The functions of c/, of tensors in one piece: images (N, H, W, C), tiles (k², tiles, C), statistics (N, C).

    Attributes:
        amx: `filter_gradient` is among them, and this process may use it.
    """

    def __init__(self, library: ctypes.CDLL, names: Iterable[str]) -> None:
        self.functions = {name: library[name] for name in names}
        self.amx = hasattr(library, "tiles_allowed") and bool(library["tiles_allowed"]())
        if self.amx:
            self.functions["filter_gradient"] = library["filter_gradient"]

    def to_tiles(self, images: Tensor, matrix: Matrix, grid: "Grid", made: Tensor) -> None:
        self.call(f"to_{matrix.name}", (images, made), on_grid(images, grid))

    def from_tiles(self, values: Tensor, matrix: Matrix, grid: "Grid", images: Tensor, first: int) -> None:
        some = images[..., first : first + values.shape[2] // grid.stride**2]
        overlap = len(matrix.values) > grid.step
        work = on_grid(some, grid, add=overlap, of=images.shape[3])
        self.call(f"from_{matrix.name}", (values, some), work)

    def normed(self, images: Tensor, made: Tensor, mean: Tensor, scale: Tensor, eps: float) -> None:
        self.typed("normed", (images, made, mean, scale), work(images), ctypes.c_float(eps))

    def normed_back(
        self, gradient: Tensor, images: Tensor, mean: Tensor, scale: Tensor, made: Tensor
    ) -> None:
        self.typed("normed_back", (gradient, images, mean, scale, made), work(images))

    def rectified(self, images: Tensor) -> None:
        self.typed("rectified", (images,), work(images))

    def rectified_back(
        self, gradient: Tensor, images: Tensor, mean: Tensor, scale: Tensor, made: Tensor
    ) -> None:
        self.typed("rectified_back", (gradient, images, mean, scale, made), work(images))

    def halved(self, images: Tensor, made: Tensor) -> None:
        self.typed("halved", (images, made), work(images))

    def halved_back(self, gradient: Tensor, made: Tensor) -> None:
        self.typed("halved_back", (gradient, made), work(made))

    def product(self, name: str, left: Tensor, right: Tensor, made: Tensor, *, add: bool) -> None:
        """Of left (M, K) and right (K, N) to `made`; which of the two are transposed in memory, the name says."""
        self.call(name, (left, right, made), Product(*left.shape, right.shape[1], add))

    def filter_gradient(self, small: Tensor, large: Tensor, stride: int, made: Tensor) -> None:
        """Of a convolution of `large`, (N, H, W, C), to `small`, (N, h, w, M), in bf16: float32 taps (M, k, k, C)."""
        n, h, w, m = small.shape
        pixels, kernel = n * h * w, made.shape[1]
        rows, wide, deep = (-(-x // 32) * 32 for x in (m, kernel * large.shape[3], pixels))
        left = scratch("left", (rows, deep), small.dtype)
        sums = scratch("sums", (rows, kernel * wide), torch.float32)
        places = scratch("places", (pixels,), torch.int32)
        how = Filter(n, h, w, m, *large.shape[1:], kernel, stride)
        self.call("filter_gradient", (small, large, made, left, sums, places), how)

    def typed(self, name: str, tensors: Sequence[Tensor], work: Work, *more: ctypes.c_float) -> None:
        self.call(f"{name}_{sources.TYPES[tensors[0].dtype]}", tensors, work, *more)

    def call(
        self, name: str, tensors: Sequence[Tensor], work: Work | Product | Filter, *more: ctypes.c_float
    ) -> None:
        pointers = (ctypes.c_void_p(x.data_ptr()) for x in tensors)
        self.functions[name](*pointers, ctypes.byref(work), *more)


def work(images: Tensor) -> Work:
    return Work(*images.shape)


def on_grid(images: Tensor, grid: "Grid", *, add: bool = False, of: int = 0) -> Work:
    return Work(*images.shape, *grid, add, of)


def kernels(dtype: torch.dtype, *channels: int, tiled: bool = True) -> Kernels | None:
    """What handles images of that many channels, or tiles of them, unless torch must."""
    typed = dtype == torch.float32 if tiled else dtype in sources.TYPES
    fits = typed and all(count % LANES == 0 for count in channels)
    return compiled() if fits and _allowed else None


@contextmanager
def allowed(on: bool) -> Iterator[None]:
    """Inside, torch's operations are used unless `on`."""
    global _allowed
    before, _allowed = _allowed, on
    try:
        yield
    finally:
        _allowed = before


@cache
def compiled() -> Kernels | None:
    """Everything, from this user's cache, compiled if it is not there yet; None where that cannot be done."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None or platform.system() != "Linux":
        return None
    code, names = sources.source()
    for features in processor():
        if library := loaded(compiler, [*FLAGS, *features], code):
            return Kernels(library, names)
    return None


def loaded(compiler: str, flags: Sequence[str], code: str) -> ctypes.CDLL | None:
    whole = "\n".join([sources.included(), code, platform.machine(), *flags])
    name = f"kernels-{hashlib.sha256(whole.encode()).hexdigest()[:16]}.so"
    with ExitStack() as stack:
        for folder in (cache_folder, lambda: Path(stack.enter_context(tempfile.TemporaryDirectory()))):
            try:
                return ctypes.CDLL(str(built(folder() / name, [compiler, *flags], code)))
            except FAILURES:
                continue
    return None


def processor() -> Iterator[Sequence[str]]:
    """Flags for the compiler, of which it may not know the first."""
    common = FEATURES.get(torch.backends.cpu.get_cpu_capability(), ())
    if common and torch.cpu.get_capabilities().get("amx_bf16"):
        yield (*common, *AMX)
    yield common


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "twofold"


def built(library: Path, compiler: list[str], code: str) -> Path:
    """Compiled aside and renamed, so that what is there is whole, whoever else compiles it now."""
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as aside:
            (Path(aside) / "kernels.c").write_text(code)
            command = [*compiler, f"-I{sources.FOLDER}", "-o", "kernels.so", "kernels.c"]
            subprocess.run(command, cwd=aside, check=True, capture_output=True, timeout=120)
            (Path(aside) / "kernels.so").replace(library)
    return library
