"""Convolutions of stride 1 with a quarter of the multiplications or fewer: Winograd's, as batched matrix products.

Lavin & Gray 2016 (arXiv 1509.09308), §4 and equation 8: each m×m tile of the output is Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A
of a filter g of r×r taps and the tile d of the input that it sees, s = m + r - 1 pixels wide. Summed over channels, the ⊙
becomes one matrix product for each of the s² places in d. It pays on CPUs, whose library convolves directly. In float32
a result is off by about 1e-5 of the largest, some four times as much as a direct convolution's.

Intermediate values are in the scratch memories "a", "b" and "c".
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.cpu.gradients import Grads, pixels
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


class WinogradConv(NamedTuple):
    """The convolution of images (N, C, H, W) of one size with filters (O, C, r, r), padded by 0 or 1 pixels."""

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

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        made = empty((len(images), len(weight), *self.size), images.dtype)
        parts, blocks = self.divided(images, weight)
        whole = self.filters(weight) if len(blocks) == 1 else None
        for part in parts:
            tiled = to_tiles(pixels(images[part]), self.transforms.input, self.input, "b", "a", self.kernels)
            for block in blocks:
                taps = self.filters(weight[block]) if whole is None else whole  # (s², O, C)
                products = scratch("b", (*tiled.shape[:2], taps.shape[1]), images.dtype)
                torch.bmm(tiled, taps.transpose(1, 2), out=products)
                output = pixels(made[part, block])
                from_tiles(products, self.transforms.output, self.output, output, "c", "b", self.kernels)
        return made

    def gradients(self, gradient: Tensor, images: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> Grads:
        grad_images = empty(images.shape, images.dtype) if wanted[0] else None
        grad_weight = torch.empty_like(weight) if wanted[1] else None
        how, kernels = self.transforms, self.kernels
        parts, blocks = self.divided(images, weight)
        whole = self.filters(weight) if wanted[0] and len(blocks) == 1 else None
        for part in parts:
            given = pixels(gradient[part])
            products = to_tiles(given, how.output_back, self.output, "b", "a", kernels)  # in "a"
            if grad_weight is not None:
                tiled = to_tiles(pixels(images[part]), how.input, self.input, "c", "b", kernels)
                for block in blocks:
                    its = products[:, :, block].transpose(1, 2)
                    grad_taps = scratch("grad taps", (*its.shape[:2], tiled.shape[2]), images.dtype)
                    before = 0.0 if len(blocks) > 1 or part is parts[0] else 1.0  # times what was there
                    torch.baddbmm(grad_taps, its, tiled, beta=before, out=grad_taps)
                    if len(blocks) > 1 or part is parts[-1]:
                        self.filters_back(grad_taps, grad_weight[block])
            if grad_images is not None:
                back = scratch("b", (*products.shape[:2], images.shape[1]), images.dtype)
                for block in blocks:
                    taps = self.filters(weight[block]) if whole is None else whole
                    before = 0.0 if block is blocks[0] else 1.0
                    torch.baddbmm(back, products[:, :, block], taps, beta=before, out=back)
                from_tiles(back, how.input_back, self.input, pixels(grad_images[part]), "c", "b", kernels)
        return grad_images, grad_weight

    def by_torch(self, images: Tensor, weight: Tensor) -> Tensor:
        mode = "reflect" if self.input.reflect else "constant"
        return F.conv2d(F.pad(images, (self.input.edge,) * 4, mode), weight)

    def divided(self, images: Tensor, weight: Tensor) -> tuple[list[slice], list[slice]]:
        """Slices of the images, or of the filter's output channels, whose intermediate values stay small; the other whole."""
        o, c = weight.shape[:2]
        places, each = len(self.transforms.input.values) ** 2, self.input.down * self.input.right
        few = max(1, AT_ONCE // (each * places * max(o, c)))
        if few < len(images):
            return [slice(at, at + few) for at in range(0, len(images), few)], [slice(None)]
        count = -(-places * c * o // (FILTERS_AT_ONCE * max(1, len(images) * each // ROWS)))
        narrow = max(32, -(-o // count // 8) * 8)
        return [slice(None)], [slice(at, at + narrow) for at in range(0, o, narrow)]

    def filters(self, weight: Tensor) -> Tensor:
        """G g Gᵀ: (O, C, r, r) to (s², O, C)."""
        return to_tiles(pixels(weight), self.transforms.filter, self.taps, "half taps", "taps", self.kernels)

    def filters_back(self, gradient: Tensor, weight: Tensor) -> None:
        """Fill the gradient of the filter, (O, C, r, r), from that of `filters`."""
        matrix = self.transforms.filter_back
        from_tiles(gradient, matrix, self.taps, pixels(weight), "half taps", "more taps", self.kernels)


@lru_cache(maxsize=1000)
def plan(
    height: int, width: int, taps: int, edge: int, reflect: bool, dtype: torch.dtype, kernels: Kernels | None
) -> WinogradConv:
    """For filters of `taps` by `taps` and a padding of 0 or 1, with the tile that takes the fewest multiplications."""
    size = height + 2 * edge - taps + 1, width + 2 * edge - taps + 1
    tile = min(TILES[taps], key=lambda m: math.prod(-(-side // m) * (m + taps - 1) for side in size))
    down, right = (-(-side // tile) for side in size)
    return WinogradConv(
        transforms(taps, tile, dtype),
        Grid(tile, edge, reflect, down, right),
        Grid(tile, 0, False, down, right),
        Grid(taps, 0, False, 1, 1),
        size,
        kernels,
    )
