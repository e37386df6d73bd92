"""Matrix products on a CPU: the library's, but of few rows with a large matrix those of c/products.h.

So are the innermost layers of a U-Net: an image of 4×4 pixels and 512 channels, a filter of 16 MB, which is read once. The
library takes up to four times as long for that as these do.
"""

import torch
from torch import Tensor

from twofold.networks import native

FEW = 32
"""Rows, or terms, up to which the kernels are faster than the library."""


def multiply(left: Tensor, right: Tensor, made: Tensor, *, add: bool = False) -> None:
    """Fill `made`, (M, N), with left (M, K) times right (K, N); or add that to it."""
    (m, k), n = left.shape, right.shape[1]
    if (kernels := native.kernels(made.dtype)) and made.is_contiguous():
        by_rows = right.is_contiguous() and n % 16 == 0
        if m <= FEW and left.is_contiguous() and by_rows:
            return kernels.product("few_rows", left, right, made, add=add)
        if m <= FEW and left.is_contiguous() and right.T.is_contiguous() and k % 8 == 0:
            return kernels.product("few_rows_transposed", left, right, made, add=add)
        if k <= FEW and left.T.is_contiguous() and by_rows:
            return kernels.product("few_terms", left, right, made, add=add)
    if add:
        torch.addmm(made, left, right, out=made)
    else:
        torch.mm(left, right, out=made)
    return None
