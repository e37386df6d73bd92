"""Images cut into square tiles that may overlap, each multiplied by a small matrix from both sides; and back.

By torch's operations; where a C compiler is at hand, by `native`, which makes one pass of what takes six here.
Images are channels-last, (N, H, W, C), so that a pixel's channels lie side by side.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from twofold.networks import native
from twofold.networks.scratch import scratch
from twofold.networks.toom_cook import Matrix


class Grid(NamedTuple):
    """Where the tiles of an image are."""

    step: int
    """From one to the next, in pixels; a tile is at most twice as wide."""
    edge: int
    """Pixels of the first outside the image: 0, or 1."""
    reflect: bool
    """Whether the edge is a reflection, or zeros; what is farther outside is zeros."""
    down: int
    right: int
    """How many there are."""
    stride: int = 1
    """Pixels from one of a tile to the next. With more than one, where there are kernels, a tile is of each phase, the
    pixels that are so many from the first each way, one after the other; a tile's step is then counted in pixels of a phase."""


def to_tiles(images: Tensor, matrix: Matrix, grid: Grid, through: str, to: str) -> Tensor:
    """The transpose of M t Mᵀ of every tile t: (N, H, W, C) by M (k, side) to (k², tiles, C) in the scratch memory `to`.

    With a stride, C of each phase side by side. The memory of `through` may be used on the way.
    """
    n, _, _, c = images.shape
    k, side = matrix.values.shape
    if kernels := native.kernels(images.dtype, c):
        made = scratch(to, (k * k, n * grid.down * grid.right, c * grid.stride**2), images.dtype)
        kernels.to_tiles(images.contiguous(), matrix, grid, made)
        return made
    assert grid.stride == 1
    padded = edged(images, grid, side)
    patches = padded.unfold(1, side, grid.step).unfold(2, side, grid.step).permute(4, 5, 0, 1, 2, 3)
    laid = scratch(to, patches.shape, images.dtype).copy_(patches).view(side, side, -1)
    return both_sides(matrix.values, laid, through, to).view(k * k, -1, c)


def from_tiles(
    values: Tensor, matrix: Matrix, grid: Grid, images: Tensor, through: str, to: str, first: int = 0
) -> None:
    """The transpose of `to_tiles`: fill images with M v Mᵀ of (k², tiles, C), M (side, k), where tiles overlap with the sum.

    Filled are C channels from the `first` on. The scratch memory of both names is used; the values may be in that of `to`.
    """
    c = values.shape[2]
    if (kernels := native.kernels(images.dtype, c)) and images.is_contiguous():
        kernels.from_tiles(values, matrix, grid, images, first)
        return
    assert grid.stride == 1
    images = images[..., first : first + c]
    n, height, width, _ = images.shape
    side, k = matrix.values.shape
    made = both_sides(matrix.values, values.view(k, k, -1), through, to)
    made = made.view(side, side, n, grid.down, grid.right, c).permute(2, 3, 0, 4, 1, 5)
    if side == grid.step:
        put_together(made, images)
        return
    step, edge = grid.step, grid.edge
    padded = scratch(through, (n, step * (grid.down + 1), step * (grid.right + 1), c), values.dtype).zero_()
    cells = padded.view(n, grid.down + 1, step, grid.right + 1, step, c)
    more = side - step
    cells[:, :-1, :, :-1] = made[:, :, :step, :, :step]
    cells[:, 1:, :more, :-1] += made[:, :, step:, :, :step]
    cells[:, :-1, :, 1:, :more] += made[:, :, :step, :, step:]
    cells[:, 1:, :more, 1:, :more] += made[:, :, step:, :, step:]
    if grid.reflect:
        fold(padded[:, : height + 2], 1)
        fold(padded[:, :, : width + 2], 2)
    images.copy_(padded[:, edge : height + edge, edge : width + edge])


def both_sides(matrix: Tensor, values: Tensor, through: str, to: str) -> Tensor:
    """The transpose of M t Mᵀ of every t: M (k, s), values (s, s, n) to (k, k, n).

    By way of the scratch memory `through` to that of `to`, which may be where the values are.
    """
    k, s = matrix.shape
    half = scratch(through, (s, k, values.shape[2]), values.dtype)
    torch.bmm(matrix.expand(s, k, s), values, out=half)
    whole = scratch(to, (k, k, values.shape[2]), values.dtype)
    return torch.bmm(matrix.expand(k, k, s), half.transpose(0, 1), out=whole)


def edged(images: Tensor, grid: Grid, side: int) -> Tensor:
    """Images (N, H, W, C) with their edge, and zeros from there to the end of the last tiles; (N, H', W', C)."""
    n, height, width, c = images.shape
    high, wide = (grid.step * (count - 1) + side for count in (grid.down, grid.right))
    edge = grid.edge
    if (high, wide, edge) == (height, width, 0):
        return images
    padded = scratch("edged", (n, high, wide, c), images.dtype)
    rows, columns = min(height, high - edge), min(width, wide - edge)
    padded[:, edge : edge + rows, edge : edge + columns] = images[:, :rows, :columns]
    for dim, inside, end in ((1, rows, high), (2, columns, wide)):
        after = edge + inside
        if edge and grid.reflect:
            padded.select(dim, 0).copy_(padded.select(dim, 2))
            padded.select(dim, after).copy_(padded.select(dim, after - 2))
            after += 1
        elif edge:
            padded.select(dim, 0).zero_()
        padded.narrow(dim, after, end - after).zero_()
    return padded


def fold(padded: Tensor, dim: int) -> None:
    """Add what belongs to the reflected edges, along one side, to the pixels that they repeat."""
    last = padded.shape[dim] - 1
    padded.select(dim, 2).add_(padded.select(dim, 0))
    padded.select(dim, last - 2).add_(padded.select(dim, last))


def put_together(made: Tensor, images: Tensor) -> None:
    """Fill images from tiles side by side, (N, down, side, right, side, C), of which the last may reach beyond."""
    _, height, width, _ = images.shape
    tile = made.shape[2]
    for top, tops, rows in whole_and_rest(height, tile):
        for left, lefts, columns in whole_and_rest(width, tile):
            target = images[:, top : top + tops * rows, left : left + lefts * columns]
            target = target.unflatten(1, (tops, rows)).unflatten(3, (lefts, columns))
            first, column = top // tile, left // tile
            target.copy_(made[:, first : first + tops, :rows, column : column + lefts, :columns])


def whole_and_rest(side: int, tile: int) -> list[tuple[int, int, int]]:
    """The tiles along a side: where they begin, how many, and how much of each; those that are whole, then the last."""
    whole, rest = divmod(side, tile)
    return [part for part in ((0, whole, tile), (whole * tile, 1, rest)) if part[1] * part[2]]
