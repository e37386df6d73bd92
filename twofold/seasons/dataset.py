"""The built-in data set: landscapes in summer (A) and in winter (B), written to a folder."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from twofold.data.answers import write_marker
from twofold.errors import TwofoldError, UsageError
from twofold.randomness import generator
from twofold.seasons import landscape

SIZES = range(16, 4097)


def make(out: Path, count: int, size: int, seed: int, notify: Callable[[str], None]) -> None:
    """Write the data set: PNG files in out/{trainA,trainB,valA,valB,testA,testB}, A summer, B winter; and its marker.

    trainA and trainB hold `count` different scenes each and share no file name; val and test hold
    max(4, count // 8) scenes each, the same under the same names in both seasons. No scene is in two sets.
    Everything is built in a folder beside `out` and renamed, so `out` is whole or absent.

    Raises:
        UsageError: `out` is in use, or `count`, `size` or `seed` cannot be.
        TwofoldError: the disk refused.
    """
    out = out.expanduser().resolve()
    _check(out, count, size, seed)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as aside:
            made = Path(aside) / "made"
            _write(made, count, size, seed)
            if out.exists():
                out.rmdir()
            made.rename(out)
    except OSError as error:
        raise TwofoldError(f"cannot write {out}: {error.strerror or error}; choose another folder") from error
    notify(f"seasons: {count} + {count} scenes to train on, {_held_out(count)} pairs to test on, in {out}")


def _check(out: Path, count: int, size: int, seed: int) -> None:
    if count < 1:
        raise UsageError(f"count is {count}; make at least 1 image a folder")
    if size not in SIZES:
        raise UsageError(f"size is {size}; choose {SIZES[0]} to {SIZES[-1]} pixels")
    if seed < 0:
        raise UsageError(f"seed is {seed}; choose 0 or more")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder; choose another or remove it first")


def _held_out(count: int) -> int:
    return max(4, count // 8)


def _write(root: Path, count: int, size: int, seed: int) -> None:
    for name, folders, seasons, number in (
        ("summer", ("trainA",), (0,), count),
        ("winter", ("trainB",), (1,), count),
        ("val", ("valA", "valB"), (0, 1), _held_out(count)),
        ("test", ("testA", "testB"), (0, 1), _held_out(count)),
    ):
        for folder in folders:
            (root / folder).mkdir(parents=True)
        for k in range(number):
            pictures = landscape.draw(scene(seed, name, k), size)
            for folder, season in zip(folders, seasons, strict=True):
                Image.fromarray(pictures[season]).save(root / folder / f"{name}-{k:05d}.png")
    write_marker(root, [("valA", "valB"), ("testA", "testB")])


def scene(seed: int, name: str, k: int) -> int:
    """The number of the `k`-th scene of the set `name`: 63 hashed bits, so that no two sets meet."""
    return int(generator("seasons", seed, name, k).integers(2**63))
