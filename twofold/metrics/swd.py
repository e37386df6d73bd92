"""Sliced Wasserstein distance of local patches between two sets of images: no weights, any number of channels.

Karras et al. 2018 (arXiv 1710.10196), section 5: patches of each level of a Laplacian pyramid are projected on random
directions, where the Wasserstein distance of two sets is that of their sorted values. Two things differ. Both sets are
normalised by the reference's channel means and deviations, not each by its own, so that a wrong colour counts. The
distance W₁ is integrated over the distribution functions, so that sets of different numbers of images can be compared.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.metrics.distribution import Estimate, Z
from twofold.randomness import generator

PATCH, LEAST = 7, 16
"""Sides in pixels of a patch and of the smallest level of the pyramid."""

PATCHES, DIRECTIONS, DRAWS = 2048, 64, 20
"""Patches of a set on each level, directions that they are projected on, and bootstrap samples."""


Patches = list[Tensor]
"""Of one image, the patches (P, D, C) of each level, D pixels a patch."""


class SlicedWasserstein:
    """Distances of sets of images from a reference set, on the CPU.

    A distance is the mean over levels and directions, in standard deviations of the reference's channels: 0 for equal
    sets. It is biased upwards, more so with fewer images: compare only distances of equally many.

    Args:
        reference: `count` images (C, H, W), float32 in [-1, 1], of any sizes. They are not kept.
        side: the shortest side in pixels of all images, also of those that will be compared with the reference.
    """

    def __init__(self, reference: Iterable[Tensor], count: int, side: int) -> None:
        self.count, self.halvings = count, halvings(side)
        found = stacked([self.patches(image, number, count) for number, image in enumerate(reference)])
        spread = [(level.mean((0, 1, 2)), level.std((0, 1, 2), correction=0)) for level in found]
        self.spread = [(mean, torch.where(std > 1e-6, std, 1.0)) for mean, std in spread]
        self.projected = self._project(found)

    def patches(self, image: Tensor, number: int, count: int) -> Patches:
        """Patches at random places of each level of image `number` of `count`.

        The places depend on the image's number alone, so that equal sets are at distance 0.
        """
        return [
            draw_patches(pixels, -(-PATCHES // count), generator("swd patches", number, level))
            for level, pixels in enumerate(pyramid(image, self.halvings))
        ]

    def distance(self, images: Sequence[Patches]) -> Estimate:
        """The distance of images, given as their `patches`, with a bootstrap interval over images of both sets.

        The sets of a bootstrap sample are farther apart than the sets themselves; so only the spread of the samples is
        used, around the distance of all images. There is no interval for one image.
        """
        projected = self._project(stacked(images))
        merged = [merge(x, y) for x, y in zip(projected, self.projected, strict=True)]

        def mean(counts: Tensor, reference_counts: Tensor) -> float:
            levels = zip(merged, projected, self.projected, strict=True)
            weights = (torch.cat([weigh(counts, x), -weigh(reference_counts, y)]) for _, x, y in levels)
            return float(np.mean([wasserstein(*each, w) for each, w in zip(merged, weights, strict=True)]))

        sizes = len(images), self.count
        value = mean(*map(torch.ones, sizes))
        if min(sizes) < 2:
            return Estimate(value)
        rng = generator("bootstrap swd", *sizes)
        draws = [
            mean(*(torch.from_numpy(rng.multinomial(n, np.full(n, 1 / n))).float() for n in sizes))
            for _ in range(DRAWS)
        ]
        half = Z * float(np.std(draws, ddof=1))
        return Estimate(value, max(0.0, value - half), value + half)

    def _project(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Patches (N, P, D, C) of each level on random directions: (N, P, directions)."""
        found = []
        for number, (patches, (mean, std)) in enumerate(zip(levels, self.spread, strict=True)):
            rows = ((patches - mean) / std).flatten(2)
            drawn = generator("swd directions", number).normal(size=(rows.shape[2], DIRECTIONS))
            found.append(rows @ torch.from_numpy(drawn / np.linalg.norm(drawn, axis=0)).float())
        return found


def halvings(side: int) -> int:
    """How often a side of so many pixels can be halved until the smallest level."""
    return max(0, (side // LEAST).bit_length() - 1)


def stacked(images: Sequence[Patches]) -> list[Tensor]:
    """The patches of several images: (N, P, D, C) of each level, where P is that of the image with the fewest."""
    levels = list(zip(*images, strict=True))
    least = [min(map(len, level)) for level in levels]  # small images have fewer places
    return [torch.stack([each[:most] for each in level]) for level, most in zip(levels, least, strict=True)]


def draw_patches(pixels: Tensor, most: int, rng: np.random.Generator) -> Tensor:
    """At most so many patches of (C, H, W) at different places: (P, D, C)."""
    side = min(PATCH, *pixels.shape[1:])
    rows, columns = (length - side + 1 for length in pixels.shape[1:])
    places = torch.from_numpy(rng.permutation(rows * columns)[:most])
    inside = torch.arange(side)
    y = (places // columns)[:, None, None] + inside[:, None]
    x = (places % columns)[:, None, None] + inside
    return pixels.permute(1, 2, 0)[y, x].flatten(1, 2)


def pyramid(image: Tensor, count: int) -> list[Tensor]:
    """The Laplacian pyramid of (C, H, W) (Burt & Adelson 1983): `count` levels of detail, then the smallest image."""
    levels, current = [], image.float()
    for _ in range(count):
        smaller = blur(current)[:, ::2, ::2]
        spread = torch.zeros_like(current)
        spread[:, ::2, ::2] = smaller
        levels.append(current - 4 * blur(spread))
        current = smaller
    return [*levels, current]


def blur(image: Tensor) -> Tensor:
    """(C, H, W) under the binomial filter 1 4 6 4 1 in both directions, mirrored at the edges."""
    image = F.pad(image, (2, 2, 2, 2), "reflect")
    for axis in (1, 2):
        length = image.shape[axis] - 4
        one, two, three, four, five = (image.narrow(axis, i, length) for i in range(5))
        image = (one + five + 4 * (two + four) + 6 * three) / 16
    return image


def merge(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Projections (N, P, K) and (M, Q, K) in ascending order, (K, NP + MQ): their order and the gaps between them."""
    values, order = torch.cat([x.flatten(0, 1), y.flatten(0, 1)]).T.contiguous().sort(1)
    return order, values.diff(dim=1)


def weigh(counts: Tensor, projected: Tensor) -> Tensor:
    """The share of each patch in its set, (NP,), where each image counts so often."""
    return (counts / (counts.sum() * projected.shape[1])).repeat_interleave(projected.shape[1])


def wasserstein(order: Tensor, gaps: Tensor, weights: Tensor) -> float:
    """∫ |F - G| dx, the mean over the directions; `weights` are those of one set and, negative, of the other."""
    return float((weights[order[:, :-1]].cumsum(1).abs() * gaps).sum(1).mean())
