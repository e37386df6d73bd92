"""3×3 convolutions with a quarter of the multiplications: Winograd's F(4×4, 3×3), as batched matrix products.

Lavin & Gray 2016 (arXiv 1509.09308), §4.3 and equation 8: each 4×4 tile of the output is
Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A of a filter g and a 6×6 tile d of the input. Summed over channels, the ⊙ becomes one matrix
product for each of the 36 places. It pays on CPUs, whose library convolves 3×3 directly. In float32 a result is off
by about 1e-5 of the largest, four times as much as directly.

Images are channels-last in here, (N, H, W, C), so that a pixel's channels lie side by side.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 4
"""Side of an output tile; the input tiles are two pixels larger and overlap by two."""

INPUT = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0))
INPUT += ((0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1))
FILTER = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))
"""Of G, times 24."""
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


@cache
def transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Bᵀ of the input (6, 6), G of the filter (6, 3), Aᵀ of the output (4, 6)."""
    sides = (torch.tensor(INPUT), torch.tensor(FILTER, dtype=torch.float64) / 24, torch.tensor(OUTPUT))
    return sides[0].to(dtype), sides[1].to(dtype), sides[2].to(dtype)


def both_sides(matrix: Tensor, tiles: Tensor) -> Tensor:
    """The transpose of M t Mᵀ of every tile t: M (k, s), tiles (s, s, n) to (k, k, n)."""
    return torch.matmul(matrix, torch.matmul(matrix, tiles).transpose(0, 1))


class WinogradConv(torch.autograd.Function):
    """Images (N, C, H, W), the edge reflected by one pixel or zeros around it, and a filter (O, C, 3, 3).

    Only the images are kept for the gradient, neither padded nor transformed. Gradients of gradients are not offered.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, reflect: bool) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.reflect = reflect
        n, _, height, width = images.shape
        products = torch.bmm(spread(images, reflect), filters(weight).transpose(1, 2))  # (36, tiles, O)
        return gathered(products, n, height, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
        of_images, of_weight, _ = ctx.needs_input_grad
        products = gathered_back(gradient)  # (36, tiles, O)
        grad_images = grad_weight = None
        if of_weight:
            grad_weight = filters_back(
                torch.bmm(products.transpose(1, 2), spread(images, ctx.reflect)), weight
            )
        if of_images:
            grad_images = spread_back(torch.bmm(products, filters(weight)), images.shape, ctx.reflect)
        return grad_images, grad_weight, None


def filters(weight: Tensor) -> Tensor:
    """G g Gᵀ: (O, C, 3, 3) to (36, O, C)."""
    o, c, _, _ = weight.shape
    taps = weight.permute(2, 3, 0, 1).reshape(3, 3, o * c)
    return both_sides(transforms(weight.dtype)[1], taps).view(36, o, c)


def filters_back(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the filter, with its strides, from that of `filters`."""
    _, o, c = gradient.shape
    taps = both_sides(transforms(gradient.dtype)[1].T, gradient.view(6, 6, o * c))
    return torch.empty_like(weight).copy_(taps.view(3, 3, o, c).permute(2, 3, 0, 1))


def tiles_along(side: int) -> int:
    return -(-side // TILE)


def spread(images: Tensor, reflect: bool) -> Tensor:
    """Bᵀ d B of every tile: (N, C, H, W) to (36, tiles, C)."""
    _, c, height, width = images.shape
    mode = "reflect" if reflect else "constant"
    padded = F.pad(images, (1, 1, 1, 1), mode)
    down, right = -height % TILE, -width % TILE
    if down or right:
        padded = F.pad(padded, (0, right, 0, down))
    padded = padded.permute(0, 2, 3, 1)
    patches = padded.unfold(1, 6, TILE).unfold(2, 6, TILE).permute(4, 5, 0, 1, 2, 3)
    return both_sides(transforms(images.dtype)[0], patches.reshape(6, 6, -1)).view(36, -1, c)


def spread_back(gradient: Tensor, shape: torch.Size, reflect: bool) -> Tensor:
    """The gradient of the images of this shape, from that of `spread`."""
    n, c, height, width = shape
    down, right = tiles_along(height), tiles_along(width)
    patches = both_sides(transforms(gradient.dtype)[0].T, gradient.view(6, 6, -1)).view(
        6, 6, n, down, right, c
    )
    patches = patches.permute(2, 3, 0, 4, 1, 5)  # (N, down, 6, right, 6, C)
    padded = gradient.new_zeros(n, TILE * (down + 1), TILE * (right + 1), c)
    grid = padded.view(n, down + 1, TILE, right + 1, TILE, c)
    grid[:, :-1, :, :-1] = patches[:, :, :TILE, :, :TILE]
    grid[:, 1:, :2, :-1] += patches[:, :, TILE:, :, :TILE]
    grid[:, :-1, :, 1:, :2] += patches[:, :, :TILE, :, TILE:]
    grid[:, 1:, :2, 1:, :2] += patches[:, :, TILE:, :, TILE:]
    inner = padded[:, 1 : height + 1, 1 : width + 1]
    if reflect:
        fold(padded[:, : height + 2], 1)
        fold(padded[:, :, : width + 2], 2)
    return inner.permute(0, 3, 1, 2)


def fold(padded: Tensor, dim: int) -> None:
    """Add what belongs to the reflected edges, along one side, to the pixels that they repeat."""
    last = padded.shape[dim] - 1
    padded.select(dim, 2).add_(padded.select(dim, 0))
    padded.select(dim, last - 2).add_(padded.select(dim, last))


def gathered(products: Tensor, n: int, height: int, width: int) -> Tensor:
    """Aᵀ m A of every tile: (36, tiles, O) to (N, O, H, W)."""
    down, right, o = tiles_along(height), tiles_along(width), products.shape[2]
    tiles = both_sides(transforms(products.dtype)[2], products.view(6, 6, -1)).view(
        TILE, TILE, n, down, right, o
    )
    images = tiles.permute(2, 3, 0, 4, 1, 5).reshape(n, TILE * down, TILE * right, o)
    return images[:, :height, :width].permute(0, 3, 1, 2)


def gathered_back(gradient: Tensor) -> Tensor:
    """The gradient of the products, from that of `gathered`."""
    n, o, height, width = gradient.shape
    down, right = tiles_along(height), tiles_along(width)
    whole = F.pad(gradient, (0, -width % TILE, 0, -height % TILE)).permute(0, 2, 3, 1)
    tiles = whole.reshape(n, down, TILE, right, TILE, o).permute(2, 4, 0, 1, 3, 5).reshape(TILE, TILE, -1)
    return both_sides(transforms(gradient.dtype)[2].T, tiles).view(36, -1, o)
