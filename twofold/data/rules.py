"""The rules for images of a run: one list and one wording, for `twofold train` and `twofold data check`.

An error stops training. Warnings are printed by both, advice by `twofold data check` only, notes by training only.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from twofold.data.geometry import LoadRule
from twofold.data.halves import Votes
from twofold.data.layouts import is_split
from twofold.data.manifest import File, Folder
from twofold.errors import TwofoldError, UsageError
from twofold.formats.find import CONVERT
from twofold.formats.images import Facts, Found

ENOUGH = 0.95
"""The share of a folder's files, or of pairs, that must be readable."""
CLIPPED = 0.01
"""The share of an image's pixels outside the range from which it is named."""
FEW = 100
"""Fewer images than this train, but are soon learnt by heart."""
LONG = 2
"""Images so many times as long as wide are advised on."""

Severity = Literal["error", "warning", "advice", "note"]


class Problem(NamedTuple):
    """Something that is wrong with the images, or worth knowing before training."""

    severity: Severity
    kind: str
    """One word for programs."""
    domain: str
    """A, B, "masks of A", "masks of B"; empty: both."""
    what: str
    """What is wrong, where, and what to do."""
    names: Sequence[str]
    """Every file that it is about."""

    @property
    def text(self) -> str:
        """The problem in one line, with its domain."""
        return f"{self.domain}: {self.what}" if self.domain else self.what

    def error(self) -> TwofoldError:
        """The exception that stops training."""
        return (TwofoldError if self.kind == "unreadable" else UsageError)(self.text)


Report = Callable[[Problem], None]
"""Called with each problem, once."""


def raising(notify: Callable[[str], None]) -> Report:
    """A report for training: the first error is raised, warnings and notes go to `notify`, advice is left out."""

    def report(problem: Problem) -> None:
        if problem.severity == "error":
            raise problem.error()
        if problem.severity != "advice":
            notify(problem.text)

    return report


def note(kind: str, report: Report) -> Callable[[str], None]:
    """Report lines that are no problem."""
    return lambda line: report(Problem("note", kind, "", line, []))


# ---- before the pixels are read


def refuse_nesting(folders: Sequence[Path]) -> None:
    """Raise UsageError where two folders are the same, or one contains the other."""
    resolved = sorted((folder.expanduser().resolve() for folder in folders), key=lambda path: len(path.parts))
    for outer, inner in combinations(resolved, 2):
        if outer == inner:
            raise UsageError(f"{inner} is given twice; each domain needs a folder of its own")
        if outer in inner.parents:
            raise UsageError(f"{inner} lies inside {outer}, so both would see its images; move one out")


def check_pairs(place: Path, broken: Mapping[str, Sequence[str]], report: Report) -> None:
    """Pairs of which something is missing, repeated or of another shape."""
    if broken:
        names = [name for each in broken.values() for name in each]
        what = f"broken pairs in {place}: {listed(broken)}; repair or remove them (all: `twofold data check --json`)"
        report(Problem("error", "pairs", "", what, names))


def check_halves(place: Path, votes: Votes, report: Report) -> None:
    """Single photographs that would be cut in half. Images twice as wide as high in a root of pairs are not refused."""
    if not votes.are_photographs:
        return
    names = some(votes.photographs)
    if votes.twice_as_wide and is_split(place):
        what = f"the halves of images in {place} continue each other ({names}); check that they are pairs"
        report(Problem("warning", "halves", "", what, votes.photographs))
        return
    what = (
        f"the images in {place} look like single photographs, not like pairs side by side ({names}); give two folders:"
        " `twofold train A B`, with equal names and --method pix2pix if they are pairs; `--pairs halves` cuts these images"
    )
    report(Problem("error", "halves", "", what, votes.photographs))


def check_jitter(label: str, rule: LoadRule, report: Report) -> None:
    """Jitter is the same for both images of a pair, and would change the colours of label maps."""
    if rule.labels and rule.settings.jitter:
        what = f"data.jitter would change the colours of the label maps of {label}; leave it out"
        report(Problem("error", "jitter", label, what, []))


def check_ignored(label: str, folder: Path, found: Found, report: Report) -> None:
    """Files that are no images, or images of a format that is not read."""
    if found.ignored:
        count = found.ignored.total()
        kinds = some(found.ignored_kinds(), 8)
        what = f"{count:,} unused file{'' if count == 1 else 's'} below {folder}: {kinds}"
        severity = "warning" if found.ignored.keys() & CONVERT.keys() else "advice"
        report(Problem(severity, "ignored", label, what, []))
    if found.junk:
        what = (
            f"{found.junk:,} hidden or system file{'' if found.junk == 1 else 's'} below {folder}, not used"
        )
        report(Problem("advice", "junk", label, what, []))


def check_aspect(label: str, folder: Folder, rule: LoadRule, report: Report) -> None:
    """Images that are much longer than wide: what a crop shows of them, and what else can be chosen."""
    s = rule.settings
    long = [file for file in folder.good if max(file[4:6]) >= LONG * min(file[4:6])]
    if len(long) * 2 < len(folder.good) or not long or s.resize in ("none", "scale-width"):
        return
    width, height = sorted((file[4:6] for file in long), key=lambda size: max(size) / min(size))[
        len(long) // 2
    ]
    high, wide = rule.geometry.loaded(width, height)
    share = min(1, s.size / high) * min(1, s.size / wide)
    loads = (
        f"loads it at {wide:,} × {high:,} px, and a crop of {s.size} × {s.size} px shows {share:.0%} of it"
    )
    if s.resize == "resize-and-crop":
        loads = f"squashes it to {wide:,} × {high:,} px"
    what = (
        f"{counted(long)} of aspect {max(width, height) / min(width, height):.2g}:1 ({width:,} × {height:,} px):"
        f" {s.resize} {loads}; choose --data.resize scale-width for whole images"
    )
    if s.resize != "crop":
        what += f", --data.resize crop --size {min(width, height, s.size)} for crops of the stored pixels"
    report(Problem("advice", "aspect", label, what, [file.name for file in long]))


def check_headers(label: str, folder: Folder, rule: LoadRule, report: Report) -> None:
    """Sizes, and everything that is read otherwise than it is stored."""
    settings, multiple_of = rule.settings, rule.multiple_of
    least = {"crop": settings.size, "none": multiple_of}.get(settings.resize, 1)
    small = [file for file in folder.files if file.width and min(file.width, file.height) < least]
    if small:
        limit = f"the crop ({least})" if settings.resize == "crop" else f"the network's {least}"
        what = (
            f"{counted(small)} smaller than {limit} ({some([file.name for file in small])}:"
            f" {small[0].width} x {small[0].height}); remove them, lower data.size, or set data.resize to"
            " shortest"
        )
        report(Problem("error", "small", label, what, [file.name for file in small]))
    ids = rule.contract.is_labels and rule.contract.channels == 1  # a transparent index stays an index
    alpha = f"with alpha: laid over white (data.channels_{label.lower()} 4 keeps alpha)"
    of_kind: tuple[tuple[str, Callable[[Facts], bool], str], ...] = (
        ("animated", lambda facts: facts.frames > 1, "with several frames: only the first is used"),
        ("alpha", lambda facts: facts.alpha and rule.contract.channels in (1, 3) and not ids, alpha),
    )
    for kind, test, words in of_kind:
        if names := [name for name, facts in folder.facts.items() if test(facts)]:
            what = f"{counted(names)} {words} ({some(names)})"
            report(Problem("warning", kind, label, what, names))


# ---- after the pixels are read


def check_readable(label: str, folder: Folder, rows: Sequence[Sequence[File]], report: Report) -> None:
    """Files that cannot be read are skipped, if they are few. `rows` are single files, or pairs."""
    bad = [next(file for file in row if file.error) for row in rows if any(file.error for file in row)]
    names, reasons = [file.name for file in bad], by_error(bad)
    of_all = f"of {len(rows):,} {'files' if label else 'pairs'} in {folder.path}"
    if len(rows) - len(bad) < ENOUGH * len(rows):
        what = f"only {len(rows) - len(bad):,} {of_all} can be read, 95 % must; repair or remove {reasons}"
        report(Problem("error", "unreadable", label, what, names))
    elif bad:
        what = f"{len(bad):,} {of_all} cannot be read and are skipped: {reasons}"
        report(Problem("warning", "unreadable", label, what, names))


def check_masks(label: str, folder: Folder, report: Report) -> None:
    if bad := folder.skipped:
        what = f"{len(bad):,} files in {folder.path} cannot be read: {by_error(bad)}"
        report(Problem("error", "masks", label, what, [file.name for file in bad]))


def check_range(label: str, shares: Mapping[str, float], report: Report) -> None:
    """Images with many pixels outside the range; `shares` has the share of each by its name."""
    clipped = [name for name, share in shares.items() if share > CLIPPED]
    if clipped:
        each = some([f"{name} {100 * shares[name]:.1f} %" for name in clipped])
        what = (
            f"{counted(clipped)} with over {100 * CLIPPED:g} % of the pixels outside the range ({each}); these values"
            f" are clipped (--data.range-{label.lower()} LOW HIGH sets the range)"
        )
        report(Problem("warning", "clipped", label, what, clipped))


def check_content(label: str, folder: Folder, rule: LoadRule, report: Report) -> None:
    """Equal files, images smaller than the crop, and too few images."""
    groups: dict[str, list[str]] = {}
    for file in folder.good:
        groups.setdefault(file.hash, []).append(file.name)
    twins = [names for names in groups.values() if len(names) > 1]
    if twins:
        what = (
            f"{counted(twins)} stored more than once, and so seen more often"
            f" ({some([some(names, 4, ' = ') for names in twins])}); keep one of each"
        )
        report(Problem("warning", "duplicates", label, what, [name for names in twins for name in names]))
    tiny = [file.name for file in folder.good if min(file.width, file.height) < rule.settings.size]
    if tiny:
        what = f"{counted(tiny)} smaller than the crop ({some(tiny)}); a lower --size keeps them sharp"
        report(Problem("advice", "tiny", label, what, tiny))
    if 0 < len(folder.good) < FEW:
        what = f"only {counted(folder.good)}; more images are the surest way to better results"
        report(Problem("advice", "few", label, what, []))


def check_labels(label: str, unknown: Mapping[str, Sequence[int]], report: Report) -> None:
    """Held-out label maps with ids that no training image has; `unknown` has the ids by the files' names."""
    if unknown:
        ids = some([f"{name}: {', '.join(map(str, values[:3]))}" for name, values in unknown.items()])
        what = f"{counted(list(unknown))} held out with ids that no training image has ({ids}); each counts as the nearest class"
        report(Problem("warning", "labels", label, what, list(unknown)))


def suggest_labels(label: str, report: Report) -> None:
    """Images that look like label maps, but were not called so."""
    what = f"few colours in flat regions; if these are label maps, train with --labels-{label.lower()}, which mixes no classes"
    report(Problem("advice", "labels", label, what, []))


def check_shared(a: Folder, b: Folder, report: Report) -> None:
    """Images that are in both domains."""
    hashes = {file.hash for file in b.good}
    both = [file.name for file in a.good if file.hash in hashes]
    parts_of_one = a.path == b.path and (a.part, b.part) != ("whole", "whole")
    if both and not parts_of_one:
        what = f"{counted(both)} of A also in B ({some(both)}); remove each from one of them"
        report(Problem("warning", "shared", "", what, both))


def check_tested(label: str, folder: Folder, tested: Mapping[str, Path], report: Report) -> None:
    """Training images that are in a test set too; `tested` has the test files by their hashes."""
    found = {file.name: tested[file.hash] for file in folder.good if file.hash in tested}
    if found:
        pairs = some([f"{name} = {path}" for name, path in found.items()], 10)
        what = f"{counted(list(found))} also in the test set ({pairs}); remove each from one of them"
        report(Problem("advice", "tested", label, what, list(found)))


def check_channels(a: LoadRule, b: LoadRule, report: Report) -> None:
    """Domains that differ in channels."""
    in_a, in_b = a.contract.channels, b.contract.channels
    if in_a != in_b:
        what = f"A has {in_a} and B {in_b} channels: cyclegan trains without the identity loss"
        report(Problem("advice", "channels", "", what, []))


# ---- wording


def listed(broken: Mapping[str, Sequence[str]]) -> str:
    """Each fault with the first few names that have it."""
    return "; ".join(f"{fault}: {some(names, 5)}" for fault, names in broken.items())


def by_error(files: Sequence[File]) -> str:
    """Files that cannot be used, with their errors: "a.png and b.png (the file is empty)"."""
    names: dict[str, list[str]] = {}
    for file in files:
        names.setdefault(file.error, []).append(file.name)
    return some([f"{some(each)} ({error})" for error, each in names.items()], 10)


def counted(items: Sequence[object]) -> str:
    """ "1 image", "3 images"."""
    return f"{len(items):,} image{'' if len(items) == 1 else 's'}"


def some(names: Sequence[str], most: int = 3, between: str = ", ") -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return between.join(names[:most]) + more
