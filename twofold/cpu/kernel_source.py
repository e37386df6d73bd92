"""The C program that `native` compiles: the files in c/, and a function for each of Winograd's matrices.

Each row of a matrix is a line of additions, eight channels at a time, so that zeros and ones cost nothing.
"""

from pathlib import Path

from twofold.cpu.winograd_matrices import TILES, Matrix, transforms

FOLDER = Path(__file__).with_name("c")

INCLUDES = '#include "common.h"\n#include "norms.h"\n#include "filters.h"\n'

TO_TILES = ("input", "filter", "output_back")
"""The matrices that are multiplied on the way to tiles; the others lead back."""

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


def source() -> str:
    """The program, which includes the files in FOLDER."""
    parts = [INCLUDES]
    for taps, tile in ((taps, tile) for taps, tiles in TILES.items() for tile in tiles):
        for role, matrix in transforms(taps, tile)._asdict().items():
            way = "to" if role in TO_TILES else "from"
            high, wide = matrix.values.shape
            parts.append(FUNCTION.format(name=matrix.name, rows=rows(matrix), high=high, wide=wide, way=way))
    return "".join(parts)


def included() -> str:
    """The text of all files that the program includes."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir()))


def rows(matrix: Matrix) -> str:
    """Each row's product with the values at x, as a sum."""
    lines = []
    for place, row in enumerate(matrix.values.tolist()):
        terms = (f"{factor:+}f * x[{at} * from]" for at, factor in enumerate(row) if factor)
        lines.append(f"  y[{place} * to] = {' '.join(terms)};")
    return "\n".join(lines)
