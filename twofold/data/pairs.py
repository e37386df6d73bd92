"""Which image of A belongs to which of B: pairs in one folder, in two, or in a list, and what is wrong with them."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from twofold.data.cache import Listed
from twofold.data.settings import DataSettings, DirectionName
from twofold.data.survey import Survey, headers, list_files, some, stat_file
from twofold.errors import UsageError

LISTS = (".csv", ".jsonl")

HALVES = "halves"


class Broken(NamedTuple):
    """One thing that is wrong with some pairs."""

    what: str
    names: list[str]

    def __str__(self) -> str:
        return f"{self.what}: {some(self.names, 5)}"


class Pairs(NamedTuple):
    """The images of both domains; those at the same place of `a.listed` and `b.listed` belong together."""

    a: Survey
    b: Survey
    kind: str
    """`halves`, the suffixes such as "jpg:png", "names", "list" or "lab"."""
    how: str
    """How they were found, for a line to the user; of A and B as given, before any exchange."""
    broken: list[Broken]


def find_pairs(a: Path, b: Path | None, settings: DataSettings) -> Pairs:
    """The pairs that `a` holds, or `a` and `b` together.

    Raises:
        UsageError: a folder or list is missing, unreadable or empty, or nothing in it says what belongs together.
    """
    a = a.expanduser().resolve()
    if b is not None:
        found = by_name(a, b.expanduser().resolve())
    elif settings.lab:
        found = colours(a)
    elif a.suffix.lower() in LISTS and not a.is_dir():
        found = from_list(a)
    else:
        found = in_one_folder(a, settings.pairs)
    found = found._replace(
        broken=[*found.broken, *unlike(found, exactly=settings.resize in ("crop", "none"))]
    )
    if settings.lab:
        found = found._replace(a=one_side(found.a), b=one_side(found.b))
    if settings.direction == "ba":
        found = found._replace(a=found.b._replace(label="A"), b=found.a._replace(label="B"))
    return found


def said(found: Pairs, direction: DirectionName) -> str:
    """How many pairs there are, how they were found, and which is the input."""
    count = len(found.a.listed)
    given, other = ("first", "ba") if direction == "ab" else ("second", "ab")
    which = (
        "" if found.kind == "lab" else f", the {given} being the input (--direction {other} exchanges them)"
    )
    return f"{count:,} pair{'' if count == 1 else 's'}: {found.how}{which}"


# ---- where pairs come from


def by_name(a: Path, b: Path) -> Pairs:
    """Two folders, whose files belong together where their names are equal up to the suffix."""
    listed = [list_files(folder) for folder in (a, b)]
    groups_a, groups_b = (by_stem(files) for files in listed)
    broken = [
        *(Broken(f"several files of one name in {folder}", twice(groups)) for folder, groups in ((a, groups_a), (b, groups_b))),
        Broken(f"not in {b}", [first(groups_a[stem]) for stem in groups_a if stem not in groups_b]),
        Broken(f"not in {a}", [first(groups_b[stem]) for stem in groups_b if stem not in groups_a]),
    ]  # fmt: skip
    stems = [stem for stem in groups_a if stem in groups_b]
    if not stems:
        names = f"{first(next(iter(groups_a.values())))} there, {first(next(iter(groups_b.values())))} here"
        raise UsageError(
            f"no name in {a} is one in {b} ({names}), so there are no pairs; name them alike, or leave out"
            " data.paired (cyclegan and cut need no pairs)"
        )
    a_files, b_files = ([groups[stem][0] for stem in stems] for groups in (groups_a, groups_b))
    how = f"files of one name in {a.name} and {b.name}"
    return Pairs(surveyed("A", a, a_files), surveyed("B", b, b_files), "names", how, some_of(broken))


def in_one_folder(folder: Path, asked: str | None) -> Pairs:
    """One folder: `halves` of each image, or files that differ in their suffix alone."""
    listed = list_files(folder)
    kind = asked or find_kind(folder, listed)
    return halves(folder, listed) if kind == HALVES else by_suffix(folder, listed, kind)


def find_kind(folder: Path, listed: Sequence[Listed]) -> str:
    """`halves` where every file has a stem of its own; else the two suffixes that there are."""
    if all(len(files) == 1 for files in by_stem(listed).values()):
        return HALVES
    suffixes = sorted({suffix(file.name) for file in listed})
    if len(suffixes) != 2:
        raise UsageError(
            f"{folder} holds files of {len(suffixes)} kinds ({' '.join(suffixes)}); say which are pairs:"
            " --pairs jpg:png, or --pairs halves"
        )
    return ":".join(name.removeprefix(".") for name in suffixes)


def halves(folder: Path, listed: Sequence[Listed]) -> Pairs:
    found = surveyed("A", folder, listed)
    odd = found.having(lambda facts: facts.width % 2 == 1)
    broken = [Broken("odd widths, which have no halves", [sized(found, name) for name in odd])]
    facts = {name: each._replace(width=each.width // 2) for name, each in found.facts.items()}
    left, right = (
        found._replace(facts=facts, part="left"),
        found._replace(label="B", facts=facts, part="right"),
    )
    return Pairs(left, right, HALVES, "the left and the right half of each image", some_of(broken))


def by_suffix(folder: Path, listed: Sequence[Listed], kind: str) -> Pairs:
    one, other = (f".{name.lower()}" for name in kind.split(":"))
    if one == other:
        raise UsageError(f"--pairs {kind} names one suffix twice; give two, such as jpg:png, or halves")
    groups = [by_stem(file for file in listed if suffix(file.name) == each) for each in (one, other)]
    broken = [Broken(f"several {each} files of one name", twice(group)) for each, group in zip((one, other), groups, strict=True)]  # fmt: skip
    for mine, (group, others) in ((other, groups), (one, groups[::-1])):
        broken.append(
            Broken(f"no {mine} beside", [first(group[stem]) for stem in group if stem not in others])
        )
    stems = [stem for stem in groups[0] if stem in groups[1]]
    if not stems:
        raise UsageError(f"{folder} holds no X{one} with an X{other}; see --pairs")
    a, b = (
        surveyed(label, folder, [group[stem][0] for stem in stems])._replace(suffix=each)
        for label, group, each in zip("AB", groups, (one, other), strict=True)
    )
    return Pairs(a, b, kind.lower(), f"X{one} with X{other}", some_of(broken))


def colours(folder: Path) -> Pairs:
    """Each image with itself, for Lab."""
    found = surveyed("A", folder, list_files(folder))
    return Pairs(found, found._replace(label="B"), "lab", "the lightness of each image and its colour", [])


def from_list(path: Path) -> Pairs:
    """A list of paths, relative to itself: CSV of two columns, or JSONL with the keys a and b."""
    rows = list(read_list(path))
    if not rows:
        raise UsageError(f"{path} lists no pairs; write one a line")
    columns = list(zip(*rows, strict=True))
    missing = [name for column in columns for name in column if not (path.parent / name).is_file()]
    repeated = [name for column in columns for name, count in Counter(column).items() if count > 1]
    broken = [Broken("files that are not there", missing), Broken("files in several pairs", repeated)]
    there = [row for row in rows if not set(row) & set(missing)]
    kept = [[stat_file(path.parent, name) for name in row] for row in there]
    a, b = (
        surveyed(label, path.parent, [row[i] for row in kept])._replace(source=path.name)
        for i, label in enumerate("AB")
    )
    return Pairs(a, b, "list", f"the lines of {path.name}", some_of(broken))


def read_list(path: Path) -> Iterator[tuple[str, str]]:
    """The pairs of names in a list.

    Raises:
        UsageError: it cannot be read, or a line holds no pair; the message says which.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list {path}: {error}") from error
    read = json_rows if path.suffix.lower() == ".jsonl" else csv_rows
    for line, row in read(text, path):
        names = [
            PurePosixPath(name.strip()).as_posix() for name in row if isinstance(name, str) and name.strip()
        ]
        if len(row) != 2 or len(names) != 2:
            raise UsageError(f"{path}, line {line}: a pair is two paths, of A and of B; found {row!r:.80}")
        yield names[0], names[1]


def csv_rows(text: str, path: Path) -> Iterator[tuple[int, Sequence[object]]]:
    reader = csv.reader(text.splitlines())
    try:
        for place, row in enumerate(reader):
            if row and not (place == 0 and [name.strip().lower() for name in row] == ["a", "b"]):
                yield reader.line_num, row
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}") from error


def json_rows(text: str, path: Path) -> Iterator[tuple[int, Sequence[object]]]:
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
            yield line, (row["a"], row["b"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f'{path}, line {line}: a pair reads {{"a": PATH, "b": PATH}}') from error


# ---- small parts


def one_side(found: Survey) -> Survey:
    """The same images in Lab, of which A is the lightness and B the colour."""
    return found._replace(part="lightness" if found.label == "A" else "colour")


def unlike(found: Pairs, exactly: bool) -> list[Broken]:
    """The pairs whose images are not one scaled to the other, within a pixel; with `exactly`, not of one size."""
    return [] if found.kind in (HALVES, "lab") else shapes(found.a, found.b, exactly)


def shapes(one: Survey, other: Survey, exactly: bool) -> list[Broken]:
    """The same of two surveys in one order."""
    names = []
    for file_a, file_b in zip(one.listed, other.listed, strict=False):
        a, b = one.facts.get(file_a.name), other.facts.get(file_b.name)
        if a is None or b is None:  # unreadable, which the reading of all files will say
            continue
        skew = abs(a.width * b.height - a.height * b.width)
        alike = skew <= max(a.width, a.height, b.width, b.height)
        if (a.width, a.height) != (b.width, b.height) if exactly else not alike:
            names.append(f"{sized(one, file_a.name)} with {sized(other, file_b.name)}")
    return some_of([Broken("sizes that differ" if exactly else "shapes that differ", names)])


def surveyed(label: str, folder: Path, listed: Sequence[Listed]) -> Survey:
    return Survey(label, folder, list(listed), headers(folder, listed))


def by_stem(listed: Iterable[Listed]) -> dict[str, list[Listed]]:
    groups: dict[str, list[Listed]] = {}
    for file in listed:
        groups.setdefault(PurePosixPath(file.name).with_suffix("").as_posix(), []).append(file)
    return groups


def twice(groups: dict[str, list[Listed]]) -> list[str]:
    return [" = ".join(file.name for file in files) for files in groups.values() if len(files) > 1]


def suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def first(files: Sequence[Listed]) -> str:
    return files[0].name


def sized(found: Survey, name: str) -> str:
    facts = found.facts[name]
    return f"{name} ({facts.width} x {facts.height})"


def some_of(broken: Iterable[Broken]) -> list[Broken]:
    return [each for each in broken if each.names]
