"""Which images to translate, and the file that each result goes to."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.values import Uint8


class Job(NamedTuple):
    """One image to translate.

    Attributes:
        image: (H, W, channels) once read, then its translation; None before, and where there is a problem.
        problem: why this file was not translated; empty if it was.
    """

    source: Path
    target: Path
    image: Uint8 | None = None
    problem: str = ""


def plan(inputs: Sequence[Path], out: Path, suffix: str = ".png") -> list[Job]:
    """List every image under `inputs` once, each with a target of its own.

    A folder's images keep their relative names, with the ending `suffix`. If two input folders contain an image of the
    same name, each folder's results go to a subfolder with that folder's name. If a target is taken, the later source
    keeps its own ending in its name (x.jpg.png), then gets a number (x.jpg-2.png).

    Args:
        inputs: image files and folders.
        out: the folder for the results; with one input file also a file name.

    Raises:
        UsageError: an input is missing, a target is one of the inputs, or `out` names a file where a folder is needed.
    """
    if out.suffix.lower() in images.SUFFIXES and not out.is_dir():
        if len(inputs) != 1 or inputs[0].is_dir():
            raise UsageError(
                f"-o {out} is a file name, for one image; name a folder: -o {out.with_suffix('')}"
            )
        jobs = [Job(source, out) for source in relative_names(inputs[0])]
    else:
        jobs = list(jobs_in_folder(inputs, out, suffix))
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        if job.target.resolve() in sources:
            raise UsageError(f"{job.target} is one of the inputs and would be overwritten; choose another -o")
    return jobs


def jobs_in_folder(inputs: Sequence[Path], out: Path, suffix: str) -> Iterator[Job]:
    groups = {given: relative_names(given) for given in inputs}
    folders = [names.values() for given, names in groups.items() if given.is_dir()]
    stems = [{str(name.with_suffix("")).lower() for name in names} for names in folders]
    subfolders = len(set().union(*stems)) < sum(map(len, stems))
    seen: set[Path] = set()
    taken: set[str] = set()
    for given, names in groups.items():
        parent = Path(given.resolve().name) if subfolders and given.is_dir() else Path()
        for source, relative in names.items():
            if source.resolve() not in seen:
                seen.add(source.resolve())
                possible = possible_names(parent / relative, suffix)
                name = next(name for name in possible if str(name).lower() not in taken)
                taken.add(str(name).lower())
                yield Job(source, out / name)


def relative_names(given: Path) -> dict[Path, Path]:
    """The images that an input stands for, each with its name relative to the input."""
    if given.is_dir():
        return {path: path.relative_to(given) for path in images.find(given)}
    if not given.exists():
        raise UsageError(f"there is no {given}; give image files or folders")
    return {given: Path(given.name)}


def possible_names(relative: Path, suffix: str) -> Iterator[Path]:
    """horse.png, then horse.jpg.png, then horse.jpg-2.png, and so on."""
    yield relative.with_suffix(suffix)
    yield relative.with_name(relative.name + suffix)
    for number in count(2):
        yield relative.with_name(f"{relative.name}-{number}{suffix}")
