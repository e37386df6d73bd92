"""The work of `tiles` in C, written here and compiled once by this machine's own compiler, where it has one.

A transform reads a tile and writes another: as a kernel that is one pass over memory, by torch's operations six. The
code is a line of additions for each row of a matrix, eight channels at a time, whose zeros and ones cost nothing so.
For float32 on a CPU, and channels in eights; the results differ from torch's in the last bits.
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

from twofold.networks.toom_cook import TILES, Matrix, transforms

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

HEAD = """
#include <stdint.h>
typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(32), aligned(4), may_alias));
typedef int64_t i64;
enum { AT_ONCE = 32 }; /* vectors of a place in a tile that are handled together: long runs, for each place lies far from the next */
static const lanes nothing[AT_ONCE];

typedef struct { i64 n, height, width, channels, step, edge, reflect, down, right, add; } Work;

static inline i64 least(i64 a, i64 b) { return a < b ? a : b; }

/* Vectors of n images' channels for a thread to take at once: as many as can be, but something for each. */
extern int omp_get_max_threads(void);
static inline i64 share(i64 n, i64 channels) {
  const i64 parts = (omp_get_max_threads() + n - 1) / n;
  return least(AT_ONCE, (channels / 8 + parts - 1) / parts);
}

/* The pixel of a side that stands at a place of a tile's, or -1 for zeros. */
static inline i64 pixel(i64 at, i64 side, i64 reflect) {
  if (at >= 0 && at < side) return at;
  if (!reflect || at < -1 || at > side) return -1;
  return at < 0 ? 1 : side - 2;
}
"""

ROWS = """
static inline __attribute__((always_inline)) void {name}(const lanes *x, const int from, lanes *y, const int to) {{
{lines}
}}
"""

TO_TILES = """
void to_{name}(const float *restrict image, float *restrict out, const Work *w) {{
  enum {{ K = {k}, SIDE = {s} }};
  const i64 c = w->channels, plane = w->n * w->down * w->right * c;
  #pragma omp parallel for schedule(static) collapse(2)
  for (i64 b = 0; b < w->n; b++) for (i64 row = 0; row < w->down; row++) for (i64 column = 0; column < w->right; column++) {{
    const float *at[SIDE][SIDE];
    for (int i = 0; i < SIDE; i++) for (int j = 0; j < SIDE; j++) {{
      const i64 y = pixel(row * w->step - w->edge + i, w->height, w->reflect);
      const i64 x = pixel(column * w->step - w->edge + j, w->width, w->reflect);
      at[i][j] = y < 0 || x < 0 ? 0 : image + ((b * w->height + y) * w->width + x) * c;
    }}
    float *to = out + ((b * w->down + row) * w->right + column) * c;
    for (i64 first = 0; first < c; first += 8 * AT_ONCE) {{
      const int count = least(c - first, 8 * AT_ONCE) / 8;
      lanes half[K][SIDE][AT_ONCE], whole[K][AT_ONCE];
      for (int j = 0; j < SIDE; j++) {{
        lanes tile[SIDE][AT_ONCE];
        for (int i = 0; i < SIDE; i++) {{
          const lanes *from = at[i][j] ? (const lanes *)(at[i][j] + first) : nothing;
          for (int v = 0; v < count; v++) tile[i][v] = from[v];
        }}
        for (int v = 0; v < count; v++) {name}(&tile[0][v], AT_ONCE, &half[0][j][v], SIDE * AT_ONCE);
      }}
      for (int i = 0; i < K; i++) {{
        for (int v = 0; v < count; v++) {name}(&half[i][0][v], AT_ONCE, &whole[0][v], AT_ONCE);
        for (int j = 0; j < K; j++) {{
          lanes *there = (lanes *)(to + (j * K + i) * plane + first);
          for (int v = 0; v < count; v++) there[v] = whole[j][v];
        }}
      }}
    }}
  }}
}}
"""

FROM_TILES = """
void from_{name}(const float *restrict in, float *restrict image, const Work *w) {{
  enum {{ K = {s}, SIDE = {k} }};
  const i64 c = w->channels, plane = w->n * w->down * w->right * c, area = w->height * w->width;
  const i64 step = 8 * share(w->n, c);
  #pragma omp parallel for schedule(static) collapse(2)
  for (i64 b = 0; b < w->n; b++) for (i64 first = 0; first < c; first += step) {{ /* of whose sums no other has a part */
    const int count = least(c - first, step) / 8;
    if (w->add) for (i64 p = 0; p < area; p++)
      for (int v = 0; v < count; v++) ((lanes *)(image + (b * area + p) * c + first))[v] = nothing[v];
    for (i64 row = 0; row < w->down; row++) for (i64 column = 0; column < w->right; column++) {{
      const float *from = in + ((b * w->down + row) * w->right + column) * c + first;
      lanes half[SIDE][K][AT_ONCE], whole[SIDE][AT_ONCE];
      for (int j = 0; j < K; j++) {{
        lanes tile[K][AT_ONCE];
        for (int i = 0; i < K; i++) {{
          const lanes *there = (const lanes *)(from + (j * K + i) * plane);
          for (int v = 0; v < count; v++) tile[i][v] = there[v];
        }}
        for (int v = 0; v < count; v++) {name}(&tile[0][v], AT_ONCE, &half[0][j][v], K * AT_ONCE);
      }}
      for (int i = 0; i < SIDE; i++) {{
        const i64 y = pixel(row * w->step - w->edge + i, w->height, w->reflect);
        if (y < 0) continue;
        for (int v = 0; v < count; v++) {name}(&half[i][0][v], AT_ONCE, &whole[0][v], AT_ONCE);
        for (int j = 0; j < SIDE; j++) {{
          const i64 x = pixel(column * w->step - w->edge + j, w->width, w->reflect);
          if (x < 0) continue;
          lanes *to = (lanes *)(image + ((b * w->height + y) * w->width + x) * c + first);
          if (w->add) for (int v = 0; v < count; v++) to[v] += whole[j][v];
          else for (int v = 0; v < count; v++) to[v] = whole[j][v];
        }}
      }}
    }}
  }}
}}
"""

NORM = """
enum { CHUNK = 64 }; /* pixels whose sum is taken first, for it rounds less */
#define ALL_CHANNELS \\
  const i64 c = w->channels, area = w->height * w->width, step = 8 * share(w->n, c); \\
  _Pragma("omp parallel for schedule(static) collapse(2)") \\
  for (i64 b = 0; b < w->n; b++) for (i64 first = 0; first < c; first += step)
#define EACH for (int v = 0; v < count; v++)
#define AT(x) ((lanes *)((x) + (b * area + p) * c + first))
#define OF(x) ((lanes *)((x) + b * c + first))

static inline __attribute__((always_inline)) lanes root(lanes x) {
  for (int i = 0; i < 8; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

void normed(float *in, float *out, float *mean, float *scale, const Work *w, float eps) {
  ALL_CHANNELS {
    const int count = least(c - first, step) / 8;
    lanes average[AT_ONCE] = {{0}}, variance[AT_ONCE] = {{0}};
    for (i64 from = 0; from < area; from += CHUNK) {
      lanes sum[AT_ONCE] = {{0}};
      for (i64 p = from; p < least(from + CHUNK, area); p++) EACH sum[v] += AT(in)[v];
      EACH average[v] += sum[v];
    }
    EACH average[v] /= (float)area;
    for (i64 from = 0; from < area; from += CHUNK) {
      lanes sum[AT_ONCE] = {{0}};
      for (i64 p = from; p < least(from + CHUNK, area); p++) EACH {
        const lanes off = AT(in)[v] - average[v];
        sum[v] += off * off;
      }
      EACH variance[v] += sum[v];
    }
    EACH variance[v] = 1.0f / root(variance[v] / (float)area + eps);
    EACH OF(mean)[v] = average[v], OF(scale)[v] = variance[v];
    for (i64 p = 0; p < area; p++) EACH AT(out)[v] = (AT(in)[v] - average[v]) * variance[v];
  }
}

void normed_back(float *gradient, float *in, float *mean, float *scale, float *out, const Work *w) {
  ALL_CHANNELS {
    const int count = least(c - first, step) / 8;
    lanes average[AT_ONCE], along[AT_ONCE] = {{0}}, of_gradient[AT_ONCE] = {{0}}, factor[AT_ONCE];
    EACH average[v] = OF(mean)[v], factor[v] = OF(scale)[v];
    for (i64 from = 0; from < area; from += CHUNK) {
      lanes sum[AT_ONCE] = {{0}}, product[AT_ONCE] = {{0}};
      for (i64 p = from; p < least(from + CHUNK, area); p++) EACH {
        sum[v] += AT(gradient)[v];
        product[v] += AT(gradient)[v] * (AT(in)[v] - average[v]);
      }
      EACH of_gradient[v] += sum[v], along[v] += product[v];
    }
    EACH of_gradient[v] /= (float)area, along[v] *= factor[v] * factor[v] / (float)area;
    for (i64 p = 0; p < area; p++)
      EACH AT(out)[v] = factor[v] * (AT(gradient)[v] - of_gradient[v] - along[v] * (AT(in)[v] - average[v]));
  }
}

void rectified_back(float *gradient, float *in, float *mean, float *out, const Work *w) {
  ALL_CHANNELS {
    const int count = least(c - first, step) / 8;
    lanes average[AT_ONCE];
    EACH average[v] = OF(mean)[v];
    for (i64 p = 0; p < area; p++)
      EACH AT(out)[v] = (lanes)((AT(in)[v] > average[v]) & *(bits *)&AT(gradient)[v]);
  }
}
"""

GIVES_TILES = ("input", "filter", "output_back")
"""What is multiplied on the way to tiles; the others lead back."""

_allowed = True


class Work(ctypes.Structure):
    """HEAD's."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("n", "height", "width", "channels", "step", "edge", "reflect", "down", "right", "add")
    )


class Kernels:
    """`to_tiles` and `from_tiles`, compiled: tensors in one piece, (N, H, W, C) and (k², tiles, C)."""

    def __init__(self, library: ctypes.CDLL, names: Iterable[str]) -> None:
        self.functions = {name: library[name] for name in names}

    def to_tiles(self, images: Tensor, matrix: Matrix, grid: "Grid", made: Tensor) -> None:
        self.call(f"to_{matrix.name}", (images, made), work(images, grid, add=False))

    def from_tiles(self, values: Tensor, matrix: Matrix, grid: "Grid", images: Tensor) -> None:
        overlap = len(matrix.values) > grid.step
        self.call(f"from_{matrix.name}", (values, images), work(images, grid, add=overlap))

    def normed(self, images: Tensor, made: Tensor, mean: Tensor, scale: Tensor, eps: float) -> None:
        self.call("normed", (images, made, mean, scale), work(images), ctypes.c_float(eps))

    def normed_back(
        self, gradient: Tensor, images: Tensor, mean: Tensor, scale: Tensor, made: Tensor
    ) -> None:
        self.call("normed_back", (gradient, images, mean, scale, made), work(images))

    def rectified_back(self, gradient: Tensor, images: Tensor, mean: Tensor, made: Tensor) -> None:
        self.call("rectified_back", (gradient, images, mean, made), work(images))

    def call(self, name: str, tensors: Sequence[Tensor], work: Work, *more: ctypes.c_float) -> None:
        pointers = (ctypes.c_void_p(x.data_ptr()) for x in tensors)
        self.functions[name](*pointers, ctypes.byref(work), *more)


def work(images: Tensor, grid: "Grid | None" = None, *, add: bool = False) -> Work:
    where = (grid.step, grid.edge, grid.reflect, grid.down, grid.right) if grid else (0,) * 5
    return Work(*images.shape, *where, add)


def kernels(dtype: torch.dtype, *channels: int) -> Kernels | None:
    """What handles images of that many channels, unless torch must."""
    fits = dtype == torch.float32 and all(count % LANES == 0 for count in channels)
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
    flags = [*FLAGS, *FEATURES.get(torch.backends.cpu.get_cpu_capability(), ())]
    made = functions()
    code = HEAD + NORM + "".join(made.values())
    key = hashlib.sha256("\n".join([code, platform.machine(), *flags]).encode()).hexdigest()[:16]
    with ExitStack() as stack:
        for folder in (cache_folder, lambda: Path(stack.enter_context(tempfile.TemporaryDirectory()))):
            try:
                library = ctypes.CDLL(str(built(folder() / f"tiles-{key}.so", compiler, flags, code)))
            except (
                OSError,
                RuntimeError,
                subprocess.SubprocessError,
            ):  # no home, a full disk, another compiler
                continue
            return Kernels(library, [*made, "normed", "normed_back", "rectified_back"])
    return None


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "twofold"


def built(library: Path, compiler: str, flags: list[str], code: str) -> Path:
    """Compiled aside and renamed, so that what is there is whole, whoever else compiles it now."""
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as aside:
            (Path(aside) / "tiles.c").write_text(code)
            subprocess.run(
                [compiler, *flags, "-o", "tiles.so", "tiles.c"],
                cwd=aside,
                check=True,
                capture_output=True,
                timeout=120,
            )
            (Path(aside) / "tiles.so").replace(library)
    return library


def functions() -> dict[str, str]:
    """C functions by name: one for each matrix."""
    made = {}
    for taps, sides in TILES.items():
        for tile in sides:
            for role, matrix in transforms(taps, tile)._asdict().items():
                way, body = ("to", TO_TILES) if role in GIVES_TILES else ("from", FROM_TILES)
                k, s = matrix.values.shape
                made[f"{way}_{matrix.name}"] = rows(matrix) + body.format(name=matrix.name, k=k, s=s)
    return made


def rows(matrix: Matrix) -> str:
    """Each row's product with what stands at x, as a sum."""
    lines = []
    for place, row in enumerate(matrix.values.tolist()):
        terms = [term(factor, at) for at, factor in enumerate(row) if factor]
        lines.append(f"  y[{place} * to] = {' '.join(terms)};")
    return ROWS.format(name=matrix.name, lines="\n".join(lines))


def term(factor: float, at: int) -> str:
    times = "" if abs(factor) == 1 else f"{abs(factor)!r}f * "
    return f"{'-' if factor < 0 else '+'} {times}x[{at} * from]"
