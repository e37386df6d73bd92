"""Images cut into square tiles that may overlap, each multiplied by a small matrix from both sides; and back.

By torch's operations, or by the C kernels of `native`, which read and write memory once where torch needs six passes.
Images are (N, H, W, C) here, so that a pixel's channels lie side by side.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.cpu.native import Kernels
from twofold.cpu.scratch import scratch
from twofold.cpu.winograd_matrices import Grid, Matrix


def to_tiles(
    images: Tensor, matrix: Matrix, grid: Grid, through: str, to: str, kernels: Kernels | None
) -> Tensor:
    """The transpose of M t Mᵀ of every tile t: (N, H, W, C) by M (k, side) to (k², tiles, C) in the scratch memory `to`.

    The scratch memory `through` may be overwritten.
    """
    n, _, _, c = images.shape
    k, side = matrix.values.shape
    if kernels:
        made = scratch(to, (k * k, n * grid.down * grid.right, c), images.dtype)
        kernels.to_tiles(images.contiguous(), matrix, grid, made)
        return made
    padded = with_edge(images, grid, side)
    patches = padded.unfold(1, side, grid.step).unfold(2, side, grid.step).permute(4, 5, 0, 1, 2, 3)
    laid = scratch(to, patches.shape, images.dtype).copy_(patches).view(side, side, -1)
    return from_both_sides(matrix.values, laid, through, to).view(k * k, -1, c)


def from_tiles(
    values: Tensor, matrix: Matrix, grid: Grid, images: Tensor, through: str, to: str, kernels: Kernels | None
) -> None:
    """The transpose of `to_tiles`: fill images with M v Mᵀ of (k², tiles, C), M (side, k); where tiles overlap, their sum.

    The images may be some channels of others. Both scratch memories are overwritten; the values may be in `to`.
    """
    n, height, width, c = images.shape
    apart = images.stride(2)
    if kernels and images.stride() == (height * width * apart, width * apart, apart, 1):
        kernels.from_tiles(values, matrix, grid, images)
        return
    side, k = matrix.values.shape
    made = from_both_sides(matrix.values, values.view(k, k, -1), through, to)
    made = made.view(side, side, n, grid.down, grid.right, c).permute(2, 3, 0, 4, 1, 5)
    step, edge, more = grid.step, grid.edge, side - grid.step
    padded = scratch(through, (n, step * (grid.down + 1), step * (grid.right + 1), c), values.dtype)
    cells = padded.view(n, grid.down + 1, step, grid.right + 1, step, c)
    if more:
        padded.zero_()
    cells[:, :-1, :, :-1] = made[:, :, :step, :, :step]
    cells[:, 1:, :more, :-1] += made[:, :, step:, :, :step]
    cells[:, :-1, :, 1:, :more] += made[:, :, :step, :, step:]
    cells[:, 1:, :more, 1:, :more] += made[:, :, step:, :, step:]
    if grid.reflect:
        add_reflection(padded[:, : height + 2], 1)
        add_reflection(padded[:, :, : width + 2], 2)
    images.copy_(padded[:, edge : height + edge, edge : width + edge])


def from_both_sides(matrix: Tensor, values: Tensor, through: str, to: str) -> Tensor:
    """The transpose of M t Mᵀ of every t: M (k, s), values (s, s, n) to (k, k, n), in the scratch memory `to`.

    Halfway they are in the scratch memory `through`; the values may be in `to`.
    """
    k, s = matrix.shape
    half = scratch(through, (s, k, values.shape[2]), values.dtype)
    torch.bmm(matrix.expand(s, k, s), values, out=half)
    whole = scratch(to, (k, k, values.shape[2]), values.dtype)
    return torch.bmm(matrix.expand(k, k, s), half.transpose(0, 1), out=whole)


def with_edge(images: Tensor, grid: Grid, side: int) -> Tensor:
    """Images (N, H, W, C) with their edge, and zeros from there to the end of the last tiles; (N, H', W', C)."""
    planes, edge = images.permute(0, 3, 1, 2), grid.edge
    if edge:
        planes = F.pad(planes, (edge,) * 4, "reflect" if grid.reflect else "constant")
    high, wide = (grid.step * (count - 1) + side for count in (grid.down, grid.right))
    planes = F.pad(planes, (0, wide - planes.shape[3], 0, high - planes.shape[2]))
    return planes.permute(0, 2, 3, 1)


def add_reflection(padded: Tensor, dim: int) -> None:
    """Add to the pixels beside both ends of one side what belongs to their reflections."""
    last = padded.shape[dim] - 1
    padded.select(dim, 2).add_(padded.select(dim, 0))
    padded.select(dim, last - 2).add_(padded.select(dim, last))
