"""What `twofold data check` finds out about one folder or two, before anyone trains on them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from twofold.data.cache import Entry, open_all
from twofold.data.dataset import LoadRule
from twofold.data.index import ENOUGH, refuse_nesting
from twofold.data.settings import DataSettings
from twofold.data.survey import (
    Survey,
    choose_channels,
    counted,
    duplicates,
    notes,
    shared,
    some,
    survey,
    too_small,
)

FEW = 100
"""Fewer images than this train, but are soon learnt by heart."""


@dataclass(frozen=True)
class FolderFindings:
    """One folder. Sizes are (width, height) in pixels, upright."""

    label: str
    folder: Path
    good: int
    bad: tuple[tuple[str, str], ...]
    """(name, reason) of each file that does not decode."""
    channels: int
    """With which a run would train."""
    stored_channels: dict[int, int]
    """How many files have how many channels."""
    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    sixteen_bit: tuple[str, ...]
    animated: tuple[str, ...]
    tiny: tuple[str, ...]
    """Smaller than the crop, so enlarged or refused."""
    duplicates: tuple[tuple[str, ...], ...]
    """Groups of names whose files are equal."""


@dataclass(frozen=True)
class Findings:
    """Both folders (`b` is None where one was given), and what to do about them."""

    a: FolderFindings
    b: FolderFindings | None
    shared: tuple[str, ...]
    """Names in A of files that are in B too."""
    ready: bool
    """Whether training would start."""
    verdicts: tuple[str, ...]
    """One line each, saying what to do; never empty."""


class _Checked(NamedTuple):
    findings: FolderFindings
    entries: list[Entry]
    stops: list[str]
    advice: list[str]


def check(folder_a: Path, folder_b: Path | None, settings: DataSettings, *, multiple_of: int = 4) -> Findings:
    """Decode every image of one folder or two. Writes nothing, no cache either.

    Args:
        multiple_of: what the network needs sizes to be a multiple of; matters for whole images only.

    Raises:
        UsageError: a folder is missing, unreadable or empty, its `.npy` files do not fit together, or one folder
            lies inside the other.
    """
    if folder_b is not None:
        refuse_nesting([folder_a, folder_b])
    a = _check_folder("A", folder_a, settings.channels_a, settings, multiple_of)
    if folder_b is None:
        return _concluded(a.findings, None, (), a.stops, a.advice)
    b = _check_folder("B", folder_b, settings.channels_b, settings, multiple_of)
    both = tuple(shared(a.entries, b.entries))
    advice = a.advice + b.advice + _advice_on_both(a.findings, b.findings, both)
    return _concluded(a.findings, b.findings, both, a.stops + b.stops, advice)


def described(found: FolderFindings) -> str:
    """The figures of a folder in one sentence or two."""
    bad = f" ({len(found.bad):,} bad)" if found.bad else ""
    stored = ", ".join(f"{n:,} with {count}" for count, n in found.stored_channels.items())
    channels = f"{found.channels} channel{'' if found.channels == 1 else 's'}"
    mixed = "" if list(found.stored_channels) in ([], [found.channels]) else f" (stored: {stored})"
    small, middle, large = (f"{w} × {h}" for w, h in (found.smallest, found.median, found.largest))
    sizes = f"all {small}" if small == large else f"{small} to {large}, median {middle}"
    return f"{found.good:,} images{bad}, {channels}{mixed}, {sizes} px"


def _check_folder(
    label: str, folder: Path, asked: int | None, settings: DataSettings, multiple_of: int
) -> _Checked:
    found = survey(label, folder)
    channels = choose_channels(found, asked)
    uncached = settings.model_copy(update={"cache": False})
    job = found.job(LoadRule(uncached, channels, multiple_of))
    (scan,) = open_all([job], uncached, lambda _: None, verify=True)
    good = [entry for entry in scan.entries if not entry.error]
    findings = _facts(found, scan.entries, channels, settings)
    return _Checked(
        findings, good, _stops(findings, too_small(found, settings, multiple_of)), _advice(found, findings)
    )


def _facts(found: Survey, entries: list[Entry], channels: int, settings: DataSettings) -> FolderFindings:
    good = [entry for entry in entries if not entry.error]
    sizes = sorted(((entry.width, entry.height) for entry in good), key=lambda size: size[0] * size[1])
    sizes = sizes or [(0, 0)]
    return FolderFindings(
        label=found.label,
        folder=found.folder,
        good=len(good),
        bad=tuple((entry.name, entry.error) for entry in entries if entry.error),
        channels=channels,
        stored_channels=dict(sorted(Counter(facts.channels for facts in found.facts.values()).items())),
        smallest=sizes[0],
        median=sizes[(len(sizes) - 1) // 2],
        largest=sizes[-1],
        sixteen_bit=tuple(found.having(lambda facts: facts.sixteen_bit)),
        animated=tuple(found.having(lambda facts: facts.frames > 1)),
        tiny=tuple(found.having(lambda facts: min(facts.width, facts.height) < settings.size)),
        duplicates=tuple(tuple(names) for names in duplicates(good)),
    )


def _stops(found: FolderFindings, small: Sequence[str]) -> list[str]:
    """What training would refuse."""
    lines = []
    if found.good < ENOUGH * (found.good + len(found.bad)):
        total = found.good + len(found.bad)
        lines.append(
            f"{found.label}: only {found.good:,} of {total:,} files decode, 95 % must; remove the bad ones"
        )
    if small:
        lines.append(
            f"{found.label}: {counted(small)} too small to crop ({some(small)}); take them out, lower --size"
        )
    return lines


def _advice(found: Survey, findings: FolderFindings) -> list[str]:
    """What training would accept, and what to do about it all the same."""
    label = found.label
    lines = notes(found, findings.channels)
    if findings.bad:
        names = some([name for name, _ in findings.bad])
        lines.append(
            f"{label}: {len(findings.bad):,} bad files are skipped ({names}); remove or replace them"
        )
    if findings.tiny:
        names = some(findings.tiny)
        lines.append(
            f"{label}: {counted(findings.tiny)} smaller than the crop ({names}); a lower --size keeps them sharp"
        )
    if findings.duplicates:
        names = "; ".join(" = ".join(group) for group in findings.duplicates[:3])
        lines.append(
            f"{label}: {len(findings.duplicates):,} groups of equal files ({names}); keep one of each"
        )
    if findings.good < FEW:
        lines.append(
            f"{label}: {findings.good:,} images are few; more of them is the surest way to better results"
        )
    return lines


def _advice_on_both(a: FolderFindings, b: FolderFindings, both: tuple[str, ...]) -> list[str]:
    lines = []
    if both:
        lines.append(f"{counted(both)} of A in B as well ({some(both)}); take them out of one")
    if a.channels != b.channels:
        lines.append(f"A has {a.channels} channels and B {b.channels}: trains, without the identity loss")
    return lines


def _concluded(
    a: FolderFindings, b: FolderFindings | None, both: tuple[str, ...], stops: list[str], advice: list[str]
) -> Findings:
    last = "not ready: training would refuse this" if stops else "ready to train"
    return Findings(a, b, both, not stops, (*stops, *advice, last))
