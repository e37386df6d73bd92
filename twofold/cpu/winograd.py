"""Convolutions of stride 1 with a quarter of the multiplications or fewer: Winograd's, as batched matrix products.

Lavin & Gray 2016 (arXiv 1509.09308), §4 and equation 8: each m×m tile of the output is Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A
of a filter g of r×r taps and the tile d of the input that it sees, s = m + r - 1 pixels wide. Summed over channels, the ⊙
becomes one matrix product for each of the s² places in d. It pays on CPUs, whose library convolves directly. In float32
a result is off by about 1e-5 of the largest, some four times as much as a direct convolution's.

Intermediate values are in the scratch memories "a", "b" and "c".
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.cpu.gradients import Grads, by_torch, pixels
from twofold.cpu.native import Kernels
from twofold.cpu.scratch import empty, scratch
from twofold.cpu.winograd_matrices import TILES, Grid, Transforms, transforms
from twofold.cpu.winograd_tiles import from_tiles, to_tiles

AT_ONCE = 2**22
"""Values of transformed images, 16 MiB in float32, up to which several images are convolved together."""

FILTERS_AT_ONCE = 2**20
"""Values of transformed filters, 4 MiB, computed together for every `ROWS` tiles. With few tiles, what is used next should
still be in the cache; with many, larger products pay more."""

ROWS = 64


class Plan(NamedTuple):
    """How images of one size are convolved with filters of one size."""

    transforms: Transforms
    input: Grid
    """The tiles of the input, which overlap; the first begins in the edge."""
    output: Grid
    taps: Grid
    """A filter as one tile."""
    size: tuple[int, int]
    """Height and width of the output."""
    kernels: Kernels | None
    """C code for the transforms; None for torch's operations."""


@lru_cache(maxsize=1000)
def plan(
    height: int,
    width: int,
    taps: int,
    padding: int,
    reflect: bool,
    dtype: torch.dtype,
    kernels: Kernels | None = None,
) -> Plan:
    """For filters of `taps` by `taps` and a padding of 0 or 1, with the tile that takes the fewest multiplications."""
    height, width = (side + 2 * padding - taps + 1 for side in (height, width))
    tile = min(TILES[taps], key=lambda m: tiles(height, m) * tiles(width, m) * (m + taps - 1) ** 2)
    down, right = tiles(height, tile), tiles(width, tile)
    return Plan(
        transforms(taps, tile, dtype),
        Grid(tile, padding, reflect, down, right),
        Grid(tile, 0, False, down, right),
        Grid(taps, 0, False, 1, 1),
        (height, width),
        kernels,
    )


def tiles(side: int, tile: int) -> int:
    """How many tiles cover a side."""
    return -(-side // tile)


class WinogradConv(torch.autograd.Function):
    """The convolution of images (N, C, H, W) with a filter (O, C, r, r), padded by 0 or 1 pixels: reflected or zeros.

    Only images and filter are kept for the gradient, neither padded nor transformed.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, padding: int, reflect: bool, kernels: Kernels | None
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding, ctx.reflect = padding, reflect
        ctx.plan = plan(*images.shape[2:], weight.shape[2], padding, reflect, images.dtype, kernels)
        return convolved(images, weight, ctx.plan)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            convolve = partial(padded_conv2d, padding=ctx.padding, reflect=ctx.reflect)
            return *by_torch(ctx, gradient, images, weight, convolve), None, None, None
        return *gradients(gradient, images, weight, ctx.plan, *ctx.needs_input_grad[:2]), None, None, None


def padded_conv2d(images: Tensor, weight: Tensor, padding: int, reflect: bool) -> Tensor:
    return F.conv2d(F.pad(images, (padding,) * 4, "reflect" if reflect else "constant"), weight)


def convolved(images: Tensor, weight: Tensor, plan: Plan) -> Tensor:
    made = empty((len(images), len(weight), *plan.size), images.dtype)
    parts, blocks = divided(images, weight, plan)
    whole = filters(weight, plan) if len(blocks) == 1 else None
    for part in parts:
        tiled = to_tiles(pixels(images[part]), plan.transforms.input, plan.input, "b", "a", plan.kernels)
        for block in blocks:
            taps = filters(weight[block], plan) if whole is None else whole  # (s², O, C)
            products = scratch("b", (*tiled.shape[:2], taps.shape[1]), images.dtype)
            torch.bmm(tiled, taps.transpose(1, 2), out=products)
            first, output = block.start or 0, pixels(made[part])
            from_tiles(products, plan.transforms.output, plan.output, output, "c", "b", plan.kernels, first)
    return made


def gradients(
    gradient: Tensor, images: Tensor, weight: Tensor, plan: Plan, of_images: bool, of_weight: bool
) -> Grads:
    """Those of images and weight that are wanted, from the gradient of `convolved(images, weight, plan)`."""
    grad_images = empty(images.shape, images.dtype) if of_images else None
    grad_weight = torch.empty_like(weight) if of_weight else None
    how, kernels = plan.transforms, plan.kernels
    parts, blocks = divided(images, weight, plan)
    whole = filters(weight, plan) if of_images and len(blocks) == 1 else None
    for part in parts:
        products = to_tiles(pixels(gradient[part]), how.output_back, plan.output, "b", "a", kernels)  # in "a"
        if grad_weight is not None:
            tiled = to_tiles(pixels(images[part]), how.input, plan.input, "c", "b", kernels)
            for block in blocks:
                its = products[:, :, block].transpose(1, 2)
                grad_taps = scratch("grad taps", (*its.shape[:2], tiled.shape[2]), images.dtype)
                before = 0.0 if len(blocks) > 1 or part is parts[0] else 1.0  # times what was there
                torch.baddbmm(grad_taps, its, tiled, beta=before, out=grad_taps)
                if len(blocks) > 1 or part is parts[-1]:
                    filters_back(grad_taps, grad_weight[block], plan)
        if grad_images is not None:
            back = scratch("b", (*products.shape[:2], images.shape[1]), images.dtype)
            for block in blocks:
                taps = filters(weight[block], plan) if whole is None else whole
                before = 0.0 if block is blocks[0] else 1.0
                torch.baddbmm(back, products[:, :, block], taps, beta=before, out=back)
            from_tiles(back, how.input_back, plan.input, pixels(grad_images[part]), "c", "b", kernels)
    return grad_images, grad_weight


def divided(images: Tensor, weight: Tensor, plan: Plan) -> tuple[list[slice], list[slice]]:
    """Slices of the images, or of the filter's output channels, whose intermediate values stay small; the other whole."""
    o, c = weight.shape[:2]
    places, each = len(plan.transforms.input.values) ** 2, plan.input.down * plan.input.right
    few = max(1, AT_ONCE // (each * places * max(o, c)))
    if few < len(images):
        return [slice(at, at + few) for at in range(0, len(images), few)], [slice(None)]
    count = -(-places * c * o // (FILTERS_AT_ONCE * max(1, len(images) * each // ROWS)))
    narrow = max(32, -(-o // count // 8) * 8)
    return [slice(None)], [slice(at, at + narrow) for at in range(0, o, narrow)]


def filters(weight: Tensor, plan: Plan) -> Tensor:
    """G g Gᵀ: (O, C, r, r) to (s², O, C)."""
    return to_tiles(pixels(weight), plan.transforms.filter, plan.taps, "half taps", "taps", plan.kernels)


def filters_back(gradient: Tensor, weight: Tensor, plan: Plan) -> None:
    """Fill the gradient of the filter, (O, C, r, r), from that of `filters`."""
    matrix = plan.transforms.filter_back
    from_tiles(gradient, matrix, plan.taps, pixels(weight), "half taps", "more taps", plan.kernels)
