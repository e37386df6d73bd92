"""The built-in data set: landscapes in summer (A) and in winter (B), written to a folder."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from twofold.data.marker import write_marker
from twofold.errors import TwofoldError, UsageError
from twofold.formats.write import write  # not from images, which loads torch
from twofold.randomness import generator
from twofold.runs import Track, untracked
from twofold.seasons import landscape

SIZES = range(16, 4097)


def make(
    out: Path,
    count: int,
    size: int,
    seed: int,
    notify: Callable[[str], None],
    *,
    bits: int = 8,
    track: Track = untracked,
) -> None:
    """Write the data set: PNG files in out/{trainA,trainB,valA,valB,testA,testB}, A summer, B winter; and its marker.

    trainA and trainB hold `count` different scenes each and share no file name; val and test hold
    max(4, count // 8) scenes each, the same under the same names in both seasons. No scene is in two sets.
    Everything is built aside and renamed, so `out` is whole, or absent or empty as it was.

    Raises:
        UsageError: `out` is in use, or `count`, `size`, `seed` or `bits` cannot be.
        TwofoldError: the disk refused.
    """
    out = out.expanduser().resolve()
    _check(out, count, size, seed, bits)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        exists = out.exists()  # then it may be the current folder, or another disk, and is not replaced
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out if exists else out.parent) as aside:
            made = Path(aside) / "made"
            _write(made, count, size, seed, bits, track)
            for part, place in (
                [(part, out / part.name) for part in made.iterdir()] if exists else [(made, out)]
            ):
                part.rename(place)
    except OSError as error:
        raise TwofoldError(f"cannot write {out}: {error.strerror or error}; choose another folder") from error
    notify(f"seasons: {count} + {count} scenes to train on, {_held_out(count)} pairs to test on, in {out}")


def _check(out: Path, count: int, size: int, seed: int, bits: int) -> None:
    if count < 1:
        raise UsageError(f"count is {count}; make at least 1 image a folder")
    if size not in SIZES:
        raise UsageError(f"size is {size}; choose {SIZES[0]} to {SIZES[-1]} pixels")
    if seed < 0:
        raise UsageError(f"seed is {seed}; choose 0 or more")
    if bits not in range(8, 17):
        raise UsageError(f"bits is {bits}; choose 8 to 16")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder; choose another or remove it first")


def _held_out(count: int) -> int:
    return max(4, count // 8)


def _write(root: Path, count: int, size: int, seed: int, bits: int, track: Track) -> None:
    sets = (
        ("summer", {"trainA": 0}, count),
        ("winter", {"trainB": 1}, count),
        ("val", {"valA": 0, "valB": 1}, _held_out(count)),
        ("test", {"testA": 0, "testB": 1}, _held_out(count)),
    )
    scenes = [(name, seasons, k) for name, seasons, number in sets for k in range(number)]
    for name, seasons, k in track(iter(scenes), len(scenes), "drawing"):
        pictures = landscape.draw(scene(seed, name, k), size, bits)
        for folder, season in seasons.items():
            write(pictures[season], root / folder / f"{name}-{k:05d}.png")
    write_marker(root, [("valA", "valB"), ("testA", "testB")])


def scene(seed: int, name: str, k: int) -> int:
    """The number of the `k`-th scene of the set `name`: 63 hashed bits, so that no two sets meet."""
    return int(generator("seasons", seed, name, k).integers(2**63))
