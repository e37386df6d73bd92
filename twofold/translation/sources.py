"""What to translate and where it goes: files and folders in, one output name for each image."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from twofold.errors import UsageError
from twofold.formats import images


class Job(NamedTuple):
    """One image to translate."""

    source: Path
    target: Path


def plan(inputs: Sequence[Path], out: Path, suffix: str = ".png") -> list[Job]:
    """One job for every image under `inputs`, each source once.

    A folder's images keep their relative names; folders that share a name are kept apart, each in one of its
    own. All outputs get `suffix`. Two sources never share a target: the later one keeps its own suffix in its
    name, then gets a number. With one input file, `out` may be a file name.

    Raises:
        UsageError: an input is missing, an output would overwrite a source, or `out` names a file where a
            folder is needed.
    """
    if out.suffix.lower() in images.SUFFIXES and not out.is_dir():
        if len(inputs) != 1 or inputs[0].is_dir():
            raise UsageError(f"-o {out} names one image; give a folder: -o {out.with_suffix('')}")
        jobs = [Job(source, out) for source, _ in _relative(inputs[0])]
    else:
        jobs = list(_named(_apart(inputs), out, suffix))
    sources = {job.source.resolve() for job in jobs}
    clash = next((job for job in jobs if job.target.resolve() in sources), None)
    if clash:
        raise UsageError(f"{clash.target} is one of the inputs and would be overwritten; give another -o")
    return jobs


def _apart(inputs: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """(source, name below the output folder), with the folder's own name first where two folders share one."""
    groups = {given: _relative(given) for given in inputs}
    folders = {given: pairs for given, pairs in groups.items() if given.is_dir()}
    stems = [{str(name.with_suffix("")).lower() for _, name in pairs} for pairs in folders.values()]
    shared = any(count > 1 for count in Counter(chain.from_iterable(stems)).values())
    seen: set[Path] = set()
    for given, pairs in groups.items():
        above = Path(given.resolve().name) if shared and given in folders else Path()
        for source, relative in pairs:
            if source.resolve() not in seen:
                seen.add(source.resolve())
                yield source, above / relative


def _relative(given: Path) -> list[tuple[Path, Path]]:
    """(source, name relative to what was given)."""
    if given.is_dir():
        return [(path, path.relative_to(given)) for path in images.find(given)]
    if not given.exists():
        raise UsageError(f"there is no {given}; give image files or folders")
    return [(given, Path(given.name))]


def _named(pairs: Iterator[tuple[Path, Path]], out: Path, suffix: str) -> Iterator[Job]:
    taken: set[str] = set()
    for source, relative in pairs:
        name = next(n for n in _names(relative, suffix) if str(n).lower() not in taken)
        taken.add(str(name).lower())
        yield Job(source, out / name)


def _names(relative: Path, suffix: str) -> Iterator[Path]:
    """horse.png, then horse.jpg.png, then horse.jpg-2.png, and so on."""
    yield relative.with_suffix(suffix)
    yield relative.with_name(relative.name + suffix)
    number = 2
    while True:
        yield relative.with_name(f"{relative.name}-{number}{suffix}")
        number += 1
