"""3×3 convolutions with a quarter of the multiplications or fewer: Winograd's, as batched matrix products.

Lavin & Gray 2016 (arXiv 1509.09308), §4 and equation 8: each m×m tile of the output is Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A
of a filter g and the tile d of the input that it sees, which is two pixels larger. Summed over channels, the ⊙ becomes one
matrix product for each of the s² places in d, s = m + 2. It pays on CPUs, whose library convolves 3×3 directly. In float32
a result is off by about 1e-5 of the largest, some four times as much as directly.

Images are channels-last in here, (N, H, W, C), so that a pixel's channels lie side by side. What is computed on the way
lies in scratch memory, named "a", "b" and "c" for the large pieces.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from twofold.networks.remade import keep, kept
from twofold.networks.scratch import empty, scratch

TAPS = 3
"""Side of the filter."""

POINTS = tuple(map(Fraction, (0, 1, -1, 2, -2, 1 / 2, -1 / 2)))
"""Where the polynomials behind the transforms are evaluated, besides at infinity; the first m + 1 of them."""

AT_ONCE = 2**22
"""Values of transformed images, 16 MiB in float32, up to which several images are convolved together."""


class Transforms(NamedTuple):
    """Of one side of a tile."""

    input: Tensor
    """Bᵀ, (s, s)."""
    filter: Tensor
    """G, (s, 3)."""
    output: Tensor
    """Aᵀ, (m, s)."""


@cache
def transforms(tile: int, dtype: torch.dtype) -> Transforms:
    """Toom and Cook's for output tiles of that side: polynomials are multiplied by way of their values, transposed.

    Row k of G evaluates a filter at point k, row k of Bᵀ is the polynomial that vanishes at all the others, and the
    factor by which it is too large there is in G.
    """
    points = POINTS[: tile + TAPS - 2]
    others = [with_roots([q for q in points if q != p]) for p in points]
    of_input = [*[[*row, Fraction(0)] for row in others], with_roots(points)]
    of_filter = [
        [p**power / evaluated(row, p) for power in range(TAPS)] for p, row in zip(points, others, strict=True)
    ]
    of_filter.append([Fraction(power == TAPS - 1) for power in range(TAPS)])  # at infinity: the leading one
    of_output = [[*(p**power for p in points), Fraction(power == tile - 1)] for power in range(tile)]
    exact = (
        torch.tensor([[float(x) for x in row] for row in rows], dtype=torch.float64)
        for rows in (of_input, of_filter, of_output)
    )
    return Transforms(*(matrix.to(dtype) for matrix in exact))


def with_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, the constant's first, of the product of all x - root."""
    product = [Fraction(1)]
    for root in roots:
        product = [
            x - root * y for x, y in zip([Fraction(0), *product], [*product, Fraction(0)], strict=True)
        ]
    return product


def evaluated(coefficients: Sequence[Fraction], x: Fraction) -> Fraction:
    return sum((c * x**power for power, c in enumerate(coefficients)), Fraction(0))


def best_tile(height: int, width: int) -> int:
    """4 or 6, whichever takes fewer multiplications for images of this size."""
    return min(4, 6, key=lambda tile: tiles(height, tile) * tiles(width, tile) * (tile + TAPS - 1) ** 2)


def tiles(side: int, tile: int) -> int:
    """How many cover it."""
    return -(-side // tile)


def both_sides(matrix: Tensor, values: Tensor, through: str, to: str) -> Tensor:
    """The transpose of M t Mᵀ of every tile t: M (k, s), values (s, s, n) to (k, k, n).

    By way of the scratch memory `through` to that of `to`, which may be where the values are.
    """
    k, s = matrix.shape
    half = scratch(through, (s, k, values.shape[2]), values.dtype)
    torch.bmm(matrix.expand(s, k, s), values, out=half)
    whole = scratch(to, (k, k, values.shape[2]), values.dtype)
    return torch.bmm(matrix.expand(k, k, s), half.transpose(0, 1), out=whole)


class WinogradConv(torch.autograd.Function):
    """Images (N, C, H, W), the edge reflected by one pixel or zeros around it, and a filter (O, C, 3, 3).

    Only the images are kept for the gradient, neither padded nor transformed. Gradients of gradients are not offered.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, reflect: bool) -> Tensor:
        keep(ctx, images, weight)
        ctx.reflect = reflect
        n, _, height, width = images.shape
        tile, o = best_tile(height, width), len(weight)
        made = empty(n, o, height, width, like=images)
        taps = filters(weight, tile).transpose(1, 2)
        for part in parts(images, tile, o):
            tiled = spread(images[part], reflect, tile, "b", "a")
            products = scratch("b", (*tiled.shape[:2], o), images.dtype)
            gather(torch.bmm(tiled, taps, out=products), made[part].permute(0, 2, 3, 1), tile)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = kept(ctx)
        of_images, of_weight, _ = ctx.needs_input_grad
        tile, grad_images, grad_weight = best_tile(*images.shape[2:]), None, None
        taps = filters(weight, tile)  # (s², O, C)
        if of_images:
            grad_images = empty(*images.shape, like=images)
        grad_taps = scratch("grad taps", taps.shape, images.dtype)
        for number, part in enumerate(parts(images, tile, len(weight))):
            products = gathered_back(gradient[part], tile)  # (s², tiles, O), in a
            if of_weight:
                tiled = spread(images[part], ctx.reflect, tile, "c", "b")
                before = float(number > 0)  # times what was there
                torch.baddbmm(grad_taps, products.transpose(1, 2), tiled, beta=before, out=grad_taps)
            if grad_images is not None:
                back = scratch("b", (*products.shape[:2], taps.shape[2]), images.dtype)
                torch.bmm(products, taps, out=back)
                spread_back(back, grad_images[part].permute(0, 2, 3, 1), ctx.reflect, tile)
        if of_weight:
            grad_weight = filters_back(grad_taps, weight, tile)
        return grad_images, grad_weight, None


def parts(images: Tensor, tile: int, outer: int) -> Iterator[slice]:
    """The images in turn, so few at a time that what is made of them stays small."""
    n, c, height, width = images.shape
    values = tiles(height, tile) * tiles(width, tile) * (tile + TAPS - 1) ** 2 * max(c, outer)
    step = max(1, AT_ONCE // values)
    return (slice(at, at + step) for at in range(0, n, step))


def filters(weight: Tensor, tile: int) -> Tensor:
    """G g Gᵀ: (O, C, 3, 3) to (s², O, C)."""
    o, c, _, _ = weight.shape
    taps = weight.permute(2, 3, 0, 1).reshape(TAPS, TAPS, o * c)
    return both_sides(transforms(tile, weight.dtype).filter, taps, "half taps", "taps").view(-1, o, c)


def filters_back(gradient: Tensor, weight: Tensor, tile: int) -> Tensor:
    """The gradient of the filter, with its strides, from that of `filters`."""
    side = tile + TAPS - 1
    _, o, c = gradient.shape
    matrix = transforms(tile, gradient.dtype).filter.T
    taps = both_sides(matrix, gradient.view(side, side, o * c), "half taps", "taps")
    return torch.empty_like(weight).copy_(taps.view(TAPS, TAPS, o, c).permute(2, 3, 0, 1))


def spread(images: Tensor, reflect: bool, tile: int, through: str, to: str) -> Tensor:
    """Bᵀ d B of every tile: (N, C, H, W) to (s², tiles, C)."""
    c, side = images.shape[1], tile + TAPS - 1
    padded = edged(images, reflect, tile)
    patches = padded.unfold(1, side, tile).unfold(2, side, tile).permute(4, 5, 0, 1, 2, 3)
    laid = scratch(to, patches.shape, images.dtype).copy_(patches).view(side, side, -1)
    return both_sides(transforms(tile, images.dtype).input, laid, through, to).view(side * side, -1, c)


def edged(images: Tensor, reflect: bool, tile: int) -> Tensor:
    """Images (N, C, H, W) with their edge, and zeros from there to the end of the last tiles; (N, H', W', C)."""
    n, c, height, width = images.shape
    if height % tile == width % tile == 0:
        return F.pad(images, (1, 1, 1, 1), "reflect" if reflect else "constant").permute(0, 2, 3, 1)
    high, wide = tiles(height, tile) * tile + 2, tiles(width, tile) * tile + 2
    padded = scratch("edged", (n, high, wide, c), images.dtype)
    padded[:, 1 : height + 1, 1 : width + 1] = images.permute(0, 2, 3, 1)
    for dim, side, end in ((1, height, high), (2, width, wide)):
        first, last = padded.select(dim, 0), padded.select(dim, side + 1)
        if reflect:
            first.copy_(padded.select(dim, 2))
            last.copy_(padded.select(dim, side - 1))
        else:
            first.zero_()
            last.zero_()
        padded.narrow(dim, side + 2, end - side - 2).zero_()
    return padded


def spread_back(gradient: Tensor, images: Tensor, reflect: bool, tile: int) -> None:
    """The gradient of these `images`, (N, H, W, C) and to be filled, from that of `spread`, which is in b."""
    n, height, width, c = images.shape
    down, right, side = tiles(height, tile), tiles(width, tile), tile + TAPS - 1
    patches = both_sides(transforms(tile, gradient.dtype).input.T, gradient.view(side, side, -1), "c", "b")
    patches = patches.view(side, side, n, down, right, c)
    patches = patches.permute(2, 3, 0, 4, 1, 5)  # (N, down, s, right, s, C)
    padded = scratch("c", (n, tile * (down + 1), tile * (right + 1), c), gradient.dtype).zero_()
    grid = padded.view(n, down + 1, tile, right + 1, tile, c)
    more = side - tile
    grid[:, :-1, :, :-1] = patches[:, :, :tile, :, :tile]
    grid[:, 1:, :more, :-1] += patches[:, :, tile:, :, :tile]
    grid[:, :-1, :, 1:, :more] += patches[:, :, :tile, :, tile:]
    grid[:, 1:, :more, 1:, :more] += patches[:, :, tile:, :, tile:]
    if reflect:
        fold(padded[:, : height + 2], 1)
        fold(padded[:, :, : width + 2], 2)
    images.copy_(padded[:, 1 : height + 1, 1 : width + 1])


def fold(padded: Tensor, dim: int) -> None:
    """Add what belongs to the reflected edges, along one side, to the pixels that they repeat."""
    last = padded.shape[dim] - 1
    padded.select(dim, 2).add_(padded.select(dim, 0))
    padded.select(dim, last - 2).add_(padded.select(dim, last))


def gather(products: Tensor, images: Tensor, tile: int) -> None:
    """Aᵀ m A of every tile, from (s², tiles, O) in b, into images (N, H, W, O)."""
    n, height, width, o = images.shape
    down, right, side = tiles(height, tile), tiles(width, tile), tile + TAPS - 1
    made = both_sides(transforms(tile, products.dtype).output, products.view(side, side, -1), "a", "b")
    made = made.view(tile, tile, n, down, right, o).permute(2, 3, 0, 4, 1, 5)  # (N, down, m, right, m, O)
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


def gathered_back(gradient: Tensor, tile: int) -> Tensor:
    """The gradient of the products, from that of what was gathered: (N, O, H, W) to (s², tiles, O) in a."""
    n, o, height, width = gradient.shape
    down, right = tiles(height, tile), tiles(width, tile)
    if height % tile or width % tile:
        gradient = F.pad(gradient, (0, -width % tile, 0, -height % tile))
    whole = gradient.permute(0, 2, 3, 1).reshape(n, down, tile, right, tile, o).permute(2, 4, 0, 1, 3, 5)
    laid = scratch("a", whole.shape, gradient.dtype).copy_(whole).view(tile, tile, -1)
    return both_sides(transforms(tile, gradient.dtype).output.T, laid, "b", "a").view(-1, n * down * right, o)
