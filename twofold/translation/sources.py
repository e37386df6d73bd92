"""What to translate and where it goes: files and folders in, one output name for each image."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twofold import images
from twofold.errors import UsageError


class Job(NamedTuple):
    """One image to translate."""

    source: Path
    target: Path


def plan(inputs: list[Path], out: Path, suffix: str = ".png") -> list[Job]:
    """One job for every image under `inputs`.

    A folder's images keep their relative names; all outputs get `suffix`. Two sources never share a target: the
    later one keeps its own suffix in its name, then gets a number. With one input file, `out` may be a file name.

    Raises:
        UsageError: an input is missing, or an output would overwrite a source.
    """
    if (
        len(inputs) == 1
        and inputs[0].is_file()
        and out.suffix.lower() in images.SUFFIXES
        and not out.is_dir()
    ):
        jobs = [Job(inputs[0], out)]
    else:
        jobs = list(_named([pair for each in inputs for pair in _relative(each)], out, suffix))
    sources = {job.source.resolve() for job in jobs}
    clash = next((job for job in jobs if job.target.resolve() in sources), None)
    if clash:
        raise UsageError(f"{clash.target} is one of the inputs and would be overwritten; give another -o")
    return jobs


def _relative(given: Path) -> list[tuple[Path, Path]]:
    """(source, name relative to what was given)."""
    if given.is_dir():
        return [(path, path.relative_to(given)) for path in images.find(given)]
    if not given.exists():
        raise UsageError(f"there is no {given}; give image files or folders")
    return [(given, Path(given.name))]


def _named(pairs: list[tuple[Path, Path]], out: Path, suffix: str) -> list[Job]:
    taken: set[str] = set()
    jobs = []
    for source, relative in pairs:
        name = next(n for n in _names(relative, suffix) if str(n).lower() not in taken)
        taken.add(str(name).lower())
        jobs.append(Job(source, out / name))
    return jobs


def _names(relative: Path, suffix: str) -> Iterator[Path]:
    """horse.png, then horse.jpg.png, then horse.jpg-2.png, and so on."""
    yield relative.with_suffix(suffix)
    yield relative.with_name(relative.name + suffix)
    number = 2
    while True:
        yield relative.with_name(f"{relative.name}-{number}{suffix}")
        number += 1
