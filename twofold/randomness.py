"""Random numbers as a function of a key, so that resuming needs no generator state.

A key is any tuple of integers and strings, such as ``("flip", seed, "a", position)``. Keys are hashed, never
added or packed, so that neighbouring keys give unrelated streams.
"""

import zlib

import numpy as np


def _words(key: tuple[int | str, ...]) -> list[int]:
    return [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in key]


def generator(*key: int | str) -> np.random.Generator:
    """A NumPy generator that depends on `key` alone (non-negative integers and strings)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(_words(key))))


def seed32(*key: int | str) -> int:
    """A 32-bit seed that depends on `key` alone; 32 because `torch.manual_seed` on a CPU ignores the rest."""
    return int(np.random.SeedSequence(_words(key)).generate_state(1)[0])
