"""Convolutions with a quarter of the multiplications or fewer: Winograd's, as batched matrix products.

Lavin & Gray 2016 (arXiv 1509.09308), §4 and equation 8: each m×m tile of the output is Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A
of a filter g of r×r taps and the tile d of the input that it sees, s = m + r - 1 pixels wide. Summed over channels, the ⊙
becomes one matrix product for each of the s² places in d. It pays on CPUs, whose library convolves directly. In float32
a result is off by about 1e-5 of the largest, some four times as much as directly.

One of stride 2 is the sum of four of stride 1: of every second row and column from the first or second on, the four phases of
the image, each with those taps of the filter that meet it. Channels of four phases side by side are channels to the product.

What is computed on the way lies in scratch memory, named "a", "b" and "c" for the large pieces.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.networks.remade import Grads, by_library, keep, kept, rows
from twofold.networks.scratch import empty, scratch
from twofold.networks.tiles import Grid, from_tiles, to_tiles
from twofold.networks.toom_cook import TILES, Transforms, transforms

AT_ONCE = 2**22
"""Values of transformed images, 16 MiB in float32, up to which several images are convolved together."""

FILTERS_AT_ONCE = 2**20
"""Values of transformed filters, 4 MiB, made at once for every ROWS tiles: for few tiles, what is used soon should still be in
the cache; for many, larger products are worth more."""

ROWS = 64


class Plan(NamedTuple):
    """How images of one size are convolved with filters of one size."""

    transforms: Transforms
    sees: Grid
    """The tiles of the input, which overlap; the first begins in the edge."""
    gives: Grid
    """The tiles of the output."""
    taps: Grid
    """A filter's, one of each phase."""
    size: tuple[int, int]
    """Height and width of the output."""


def plan(images: Tensor, weight: Tensor, reflect: bool) -> Plan:
    """Of stride 1, for images (N, C, H, W) and filters (O, C, r, r)."""
    return planned(*images.shape[2:], weight.shape[2], reflect, 1, images.dtype)


@lru_cache(maxsize=1000)
def planned(height: int, width: int, taps: int, reflect: bool, stride: int, dtype: torch.dtype) -> Plan:
    """With the tile that takes the fewest multiplications."""
    height, width = ((side + 2 - taps) // stride + 1 for side in (height, width))
    taps //= stride
    tile = min(TILES[taps], key=lambda m: tiles(height, m) * tiles(width, m) * (m + taps - 1) ** 2)
    down, right = tiles(height, tile), tiles(width, tile)
    return Plan(
        transforms(taps, tile, dtype),
        Grid(tile, 1, reflect, down, right, stride),
        Grid(tile, 0, False, down, right),
        Grid(taps, 0, False, 1, 1, stride),
        (height, width),
    )


def tiles(side: int, tile: int) -> int:
    """How many cover it."""
    return -(-side // tile)


class WinogradConv(torch.autograd.Function):
    """Images (N, C, H, W), the edge reflected by one pixel or one of zeros around it, and a filter (O, C, r, r).

    Only the images are kept for the gradient, neither padded nor transformed.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, reflect: bool) -> Tensor:
        keep(ctx, images, weight)
        ctx.reflect = reflect
        return convolved(images, weight, plan(images, weight, reflect))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = kept(ctx)
        if torch.is_grad_enabled():
            edge = "reflect" if ctx.reflect else "constant"
            return *by_library(
                ctx, gradient, images, weight, lambda x, w: F.conv2d(F.pad(x, (1,) * 4, edge), w)
            ), None
        how = plan(images, weight, ctx.reflect)
        return *gradients(gradient, images, weight, how, *ctx.needs_input_grad[:2]), None


def convolved(images: Tensor, weight: Tensor, how: Plan) -> Tensor:
    """Images (N, C, H, W) with a filter (O, C, r, r)."""
    o = len(weight)
    made = empty(len(images), o, *how.size, like=images)
    parts, blocks = divided(images, weight, how)
    whole = filters(weight, how) if len(blocks) == 1 else None
    for part in parts:
        tiled = to_tiles(rows(images[part]), how.transforms.input, how.sees, "b", "a")
        for block in blocks:
            taps = filters(weight[block], how) if whole is None else whole  # (s², O, C)
            products = scratch("b", (*tiled.shape[:2], taps.shape[1]), images.dtype)
            torch.bmm(tiled, taps.transpose(1, 2), out=products)
            from_tiles(
                products, how.transforms.output, how.gives, rows(made[part]), "c", "b", block.start or 0
            )
    return made


def gradients(
    gradient: Tensor, images: Tensor, weight: Tensor, how: Plan, of_images: bool, of_weight: bool
) -> Grads:
    """Those of images and weight that are wanted, from that of what `convolved` gave."""
    grad_images = empty(*images.shape, like=images) if of_images else None
    grad_weight = torch.empty_like(weight) if of_weight else None
    fill_gradients(gradient, images, weight, how, grad_images, grad_weight)
    return grad_images, grad_weight


def fill_gradients(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    how: Plan,
    grad_images: Tensor | None,
    grad_weight: Tensor | None,
) -> None:
    """Fill those of `gradients` that are there."""
    parts, blocks = divided(images, weight, how)
    whole = filters(weight, how) if grad_images is not None and len(blocks) == 1 else None
    for part in parts:
        # (s², tiles, O), in a
        products = to_tiles(rows(gradient[part]), how.transforms.output_back, how.gives, "b", "a")
        if grad_weight is not None:
            tiled = to_tiles(rows(images[part]), how.transforms.input, how.sees, "c", "b")
            for block in blocks:
                its = products[:, :, block].transpose(1, 2)
                grad_taps = scratch("grad taps", (*its.shape[:2], tiled.shape[2]), images.dtype)
                before = 0.0 if len(blocks) > 1 or part is parts[0] else 1.0  # times what was there
                torch.baddbmm(grad_taps, its, tiled, beta=before, out=grad_taps)
                if len(blocks) > 1 or part is parts[-1]:
                    filters_back(grad_taps, grad_weight[block], how)
        if grad_images is not None:
            seen = images.shape[1] * how.sees.stride**2
            back = scratch("b", (*products.shape[:2], seen), images.dtype)
            for block in blocks:
                taps = filters(weight[block], how) if whole is None else whole
                before = 0.0 if block is blocks[0] else 1.0
                torch.baddbmm(back, products[:, :, block], taps, beta=before, out=back)
            from_tiles(back, how.transforms.input_back, how.sees, rows(grad_images[part]), "c", "b")


def divided(images: Tensor, weight: Tensor, how: Plan) -> tuple[list[slice], list[slice]]:
    """Images, or the filter's channels out, so many at a time that what is made of them stays small; the other whole."""
    o, c = len(weight), weight.shape[1] * how.sees.stride**2
    places, each = len(how.transforms.input.values) ** 2, how.sees.down * how.sees.right
    few = max(1, AT_ONCE // (each * places * max(o, c)))
    if few < len(images):
        return [slice(at, at + few) for at in range(0, len(images), few)], [slice(None)]
    count = -(-places * c * o // (FILTERS_AT_ONCE * max(1, len(images) * each // ROWS)))
    narrow = max(32, -(-o // count // 8) * 8)
    return [slice(None)], [slice(at, at + narrow) for at in range(0, o, narrow)]


def filters(weight: Tensor, how: Plan) -> Tensor:
    """G g Gᵀ: (O, C, r, r) to (s², O, C), C of all phases."""
    return to_tiles(rows(weight), how.transforms.filter, how.taps, "half taps", "taps")


def filters_back(gradient: Tensor, weight: Tensor, how: Plan) -> None:
    """Fill the gradient of the filter, (O, C, r, r), from that of `filters`."""
    from_tiles(gradient, how.transforms.filter_back, how.taps, rows(weight), "half taps", "more taps")
