"""What `native` compiles: the files in c/, and a function for each matrix of Winograd's.

To multiply by a matrix is a line of additions for each of its rows, eight channels at a time, whose zeros and ones so
cost nothing.
"""

from pathlib import Path

import torch

from twofold.networks.toom_cook import TILES, Matrix, transforms

FOLDER = Path(__file__).with_name("c")

BEGIN = '#include "common.h"\n#include "products.h"\n#include "filters.h"\n'

TYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}
"""Of images, and what c/common.h calls them. Tiles are in float32 alone."""

OF_EACH_TYPE = ("normed", "normed_back", "rectified_back", "halved", "halved_back")

FUNCTIONS = """
#define TYPE {name}
#include "norms.h"
#include "blur.h"
#undef TYPE
"""

GIVES_TILES = ("input", "filter", "output_back")
"""What is multiplied on the way to tiles; the others lead back."""

FUNCTION = """
INLINE void {name}(const lanes *x, const int from, lanes *y, const int to) {{
{rows}
}}
#define MATRIX {name}
#define HIGH {high}
#define WIDE {wide}
#include "{way}_tiles.h"
#undef MATRIX
#undef HIGH
#undef WIDE
"""


def source() -> tuple[str, list[str]]:
    """A program in C that includes the files in FOLDER, and the names of its functions."""
    parts = [BEGIN, *(FUNCTIONS.format(name=name) for name in TYPES.values())]
    names = ["rectified_bf16", "few_rows", "few_rows_transposed", "few_terms"]
    names += [f"{function}_{name}" for name in TYPES.values() for function in OF_EACH_TYPE]
    for taps, tiles in TILES.items():
        for tile in tiles:
            for role, matrix in transforms(taps, tile)._asdict().items():
                way = "to" if role in GIVES_TILES else "from"
                high, wide = matrix.values.shape
                parts.append(
                    FUNCTION.format(name=matrix.name, rows=rows(matrix), high=high, wide=wide, way=way)
                )
                names.append(f"{way}_{matrix.name}")
    return "".join(parts), names


def included() -> str:
    """All that it includes, in one text."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir()))


def rows(matrix: Matrix) -> str:
    """Each row's product with what stands at x, as a sum."""
    lines = []
    for place, row in enumerate(matrix.values.tolist()):
        terms = [term(factor, at) for at, factor in enumerate(row) if factor]
        lines.append(f"  y[{place} * to] = {' '.join(terms)};")
    return "\n".join(lines)


def term(factor: float, at: int) -> str:
    times = "" if abs(factor) == 1 else f"{abs(factor)!r}f * "
    return f"{'-' if factor < 0 else '+'} {times}x[{at} * from]"
