import numpy as np
import pytest

from twofold.formats import images


@pytest.fixture
def values():
    """`values(dtype, (H, W, C), seed)` draws from the whole range of an integer type, or normal numbers."""

    def draw(dtype, shape, seed=0):
        rng, kind = np.random.default_rng(seed), np.dtype(dtype)
        if kind.kind == "f":
            return rng.normal(0, 10, shape).astype(kind)
        limits = np.iinfo(kind)
        return rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)

    return draw


@pytest.fixture
def window():
    """`window(path, rows, columns)` reads a part of a TIFF file; None if the file is read only as a whole."""

    def read(path, rows, columns):
        with images.open_windows(path) as windows:
            return windows and windows.read(rows, columns).pixels

    return read
