"""What `twofold data check` finds out about one folder or two, before anyone trains on them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from twofold.data.cache import Entry, hash_file, open_all
from twofold.data.dataset import LoadRule
from twofold.data.index import ENOUGH, refuse_nesting
from twofold.data.pairs import Broken, find_pairs
from twofold.data.pairs import said as pairs_said
from twofold.data.settings import DataSettings
from twofold.data.survey import (
    Survey,
    choose_channels,
    choose_labels,
    counted,
    duplicates,
    list_files,
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
    labels: bool
    """Whether a run would take these for label maps."""
    tested: tuple[tuple[str, str], ...]
    """(name, path of a test file that is equal to it)."""


@dataclass(frozen=True)
class Findings:
    """Both folders (`b` is None where one was given), and what to do about them."""

    a: FolderFindings
    b: FolderFindings | None
    shared: tuple[str, ...]
    """Names in A of files that are in B too."""
    pairs: str | None
    """How many pairs there are and how they were found; None where none were asked for."""
    broken: tuple[Broken, ...]
    """What is wrong with pairs, with every name; training refuses each."""
    ready: bool
    """Whether training would start."""
    verdicts: tuple[str, ...]
    """One line each, saying what to do; never empty."""


class _Checked(NamedTuple):
    findings: FolderFindings
    entries: list[Entry]
    stops: list[str]
    advice: list[str]

    @property
    def good(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.error]


def check(
    folder_a: Path,
    folder_b: Path | None,
    settings: DataSettings,
    *,
    test: Sequence[Path] = (),
    multiple_of: int = 4,
) -> Findings:
    """Decode every image of one folder or two. Writes nothing, no cache either.

    Args:
        settings: with `paired`, what belongs together is looked for, in one folder or a list too.
        test: folders none of whose images may be trained on.
        multiple_of: what the network needs sizes to be a multiple of; matters for whole images only.

    Raises:
        UsageError: a folder is missing, unreadable or empty, its `.npy` files do not fit together, one folder
            lies inside the other, or nothing in them is a pair.
    """
    if folder_b is not None:
        refuse_nesting([folder_a, folder_b])
    tested = {
        hash_file(folder / file.name): str(folder / file.name)
        for folder in test
        for file in list_files(folder)
    }
    if settings.paired:
        return _check_pairs(folder_a, folder_b, settings, tested, multiple_of)
    a = _check_folder(survey("A", folder_a), settings.channels_a, settings, tested, multiple_of)
    if folder_b is None:
        return _concluded(a.findings, None, (), a.stops, a.advice)
    b = _check_folder(survey("B", folder_b), settings.channels_b, settings, tested, multiple_of)
    both = tuple(shared(a.good, b.good))
    advice = a.advice + b.advice + _advice_on_both(a.findings, b.findings, both)
    return _concluded(a.findings, b.findings, both, a.stops + b.stops, advice)


def _check_pairs(
    folder_a: Path, folder_b: Path | None, settings: DataSettings, tested: dict[str, str], multiple_of: int
) -> Findings:
    found = find_pairs(folder_a, folder_b, settings)
    a = _check_folder(found.a, settings.channels_a, settings, tested, multiple_of)
    b = _check_folder(found.b, settings.channels_b, settings, tested, multiple_of)
    stops = [f"broken pairs, {each.what}: {some(each.names, 10)}" for each in found.broken]
    bad = sum(bool(one.error or other.error) for one, other in zip(a.entries, b.entries, strict=True))
    if bad > (1 - ENOUGH) * len(a.entries):
        stops.append(
            f"only {len(a.entries) - bad:,} of {len(a.entries):,} pairs decode, 95 % must; mend the others"
        )
    both = () if found.a.part != "whole" else tuple(shared(a.good, b.good))
    findings = _concluded(a.findings, b.findings, both, stops or a.stops + b.stops, a.advice + b.advice)
    return replace(findings, pairs=pairs_said(found, settings.direction), broken=tuple(found.broken))


def described(found: FolderFindings) -> str:
    """The figures of a folder in one sentence or two."""
    bad = f" ({len(found.bad):,} bad)" if found.bad else ""
    stored = ", ".join(f"{n:,} with {count}" for count, n in found.stored_channels.items())
    channels = f"{found.channels} channel{'' if found.channels == 1 else 's'}"
    mixed = "" if list(found.stored_channels) in ([], [found.channels]) else f" (stored: {stored})"
    small, middle, large = (f"{w} × {h}" for w, h in (found.smallest, found.median, found.largest))
    sizes = f"all {small}" if small == large else f"{small} to {large}, median {middle}"
    kind = "label maps" if found.labels else "images"
    return f"{found.good:,} {kind}{bad}, {channels}{mixed}, {sizes} px"


def _check_folder(
    found: Survey, asked: int | None, settings: DataSettings, tested: dict[str, str], multiple_of: int
) -> _Checked:
    labels = choose_labels(found, settings.labels_a if found.label == "A" else settings.labels_b)
    rule = LoadRule(
        settings.model_copy(update={"cache": False}),
        choose_channels(found, asked),
        multiple_of,
        labels,
        found.part,
    )
    (scan,) = open_all([found.job(rule)], rule.settings, lambda _: None, verify=True)
    findings = _facts(found, scan.entries, rule, tested)
    stops = _stops(findings, too_small(found, settings, multiple_of))
    return _Checked(findings, scan.entries, stops, _advice(found, findings))


def _facts(found: Survey, entries: list[Entry], rule: LoadRule, tested: dict[str, str]) -> FolderFindings:
    good = [entry for entry in entries if not entry.error]
    sizes = sorted(((entry.width, entry.height) for entry in good), key=lambda size: size[0] * size[1])
    sizes = sizes or [(0, 0)]
    return FolderFindings(
        label=found.label,
        folder=found.folder,
        good=len(good),
        bad=tuple((entry.name, entry.error) for entry in entries if entry.error),
        channels=rule.channels,
        stored_channels=dict(sorted(Counter(facts.channels for facts in found.facts.values()).items())),
        smallest=sizes[0],
        median=sizes[(len(sizes) - 1) // 2],
        largest=sizes[-1],
        sixteen_bit=tuple(found.having(lambda facts: facts.sixteen_bit)),
        animated=tuple(found.having(lambda facts: facts.frames > 1)),
        tiny=tuple(found.having(lambda facts: min(facts.width, facts.height) < rule.settings.size)),
        duplicates=tuple(tuple(names) for names in duplicates(good)),
        labels=rule.labels,
        tested=tuple((entry.name, tested[entry.hash]) for entry in good if entry.hash in tested),
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
    if findings.tested:
        names = some([" = ".join(pair) for pair in findings.tested], 10)
        lines.append(
            f"{label}: {counted(findings.tested)} in the test set as well ({names}); take them out of one"
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
    return Findings(a, b, both, None, (), not stops, (*stops, *advice, last))
