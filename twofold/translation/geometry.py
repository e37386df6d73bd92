"""The size at which a network sees an image, and the padding to a size that it takes."""

import numpy as np
from numpy.typing import NDArray


def working_size(height: int, width: int, side: int | None, multiple: int) -> tuple[int, int]:
    """Height and width in pixels to scale an image to, before padding.

    Args:
        side: the scaled image has about side² pixels in its own proportions; None keeps the image's pixels.
        multiple: a scaled image's height and width are multiples of this.
    """
    if side is None or side * side == height * width:
        return height, width
    factor = side / (height * width) ** 0.5

    def nearest(pixels: int) -> int:
        return max(multiple, round(pixels * factor / multiple) * multiple)

    return nearest(height), nearest(width)


def pad(image: NDArray[np.uint8], multiple: int, minimum: int) -> NDArray[np.uint8]:
    """Mirror (H, W, C) at the lower and right edge, to multiples of `multiple` that are at least `minimum` pixels."""
    added = [max(-(-pixels // multiple) * multiple, minimum) - pixels for pixels in image.shape[:2]]
    return np.pad(image, [(0, added[0]), (0, added[1]), (0, 0)], "symmetric") if any(added) else image
