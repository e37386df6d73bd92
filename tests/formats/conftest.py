import numpy as np
import pytest


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
