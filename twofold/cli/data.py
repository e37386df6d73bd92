"""`twofold data`: what its verbs take, what they do, what they say."""

from json import dumps
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from twofold.cli.terminal import emit, paragraph, tracked
from twofold.cli.verbs import Flag, Whole
from twofold.errors import FAILED
from twofold.presets import PRESETS
from twofold.presets import commands as preset_commands


def check(
    a: Path,
    b: Path | None = None,
    /,
    *,
    size: Whole = 256,
    paired: Flag = False,
    pairs: str | None = None,
    test: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    json: Flag = False,
) -> int:
    """Look at one or two folders of images as a training would, and say what is wrong.

    Parameters
    ----------
    a
        A folder of images; of pairs, of both or a list (.csv, .jsonl).
    b
        The other domain's.
    size
        The training size they are checked for.
    paired
        They are pairs.
    pairs
        How one folder holds pairs: halves, or two suffixes such as jpg:png; found out if not given.
    test
        Folders of test images, none of which should be trained on.
    json
        Print JSON.
    """
    from dataclasses import asdict

    from twofold.data import check as checks
    from twofold.data.settings import DataSettings

    settings = DataSettings(size=size, paired=paired or pairs is not None, pairs=pairs)
    findings = checks.check(a, b, settings, test=test or [])
    if json:
        emit(dumps(asdict(findings), default=str))
    else:
        if findings.pairs:
            emit(paragraph(findings.pairs))
        for found in filter(None, (findings.a, findings.b)):
            emit(f"{found.label}  {found.folder}")
            emit(paragraph(checks.described(found), "   ", "   "))
        for line in findings.verdicts:
            emit(paragraph(line, "-  ", "   "))
    return 0 if findings.ready else FAILED


def make(
    what: Literal["seasons"],
    out: Path,
    /,
    *,
    count: Whole = 400,
    size: Whole = 128,
    seed: Whole = 0,
) -> None:
    """Make the built-in pictures: summer and winter landscapes, with known answers in val and test.

    Parameters
    ----------
    what
        The data set.
    out
        A new folder; trainA, trainB, valA, valB, testA and testB go there.
    count
        Images in each of trainA and trainB.
    size
        Their side in pixels.
    seed
        Other numbers give other pictures.
    """
    from twofold.seasons import draw as seasons

    assert what == "seasons"
    seasons.make(out, count, size, seed, emit)


def download(
    name: str | None = None,
    /,
    *,
    out: Path | None = None,
    archive: Annotated[Path | None, Parameter(name="--from")] = None,
) -> None:
    """Fetch a data set of the papers from where its authors publish it; without NAME, list them.

    Parameters
    ----------
    name
        The data set.
    out
        The folder to make; NAME in the current folder if not given.
    archive
        An archive that you have already, to unpack in place of fetching one.
    """
    from twofold.data.published import PUBLISHED
    from twofold.fetch import sized

    if name is None:
        for paired, layout in ((False, "two folders, trainA and trainB:"), (True, "pairs, in train:")):
            emit(layout)
            for each, found in PUBLISHED.items():
                if found.paired == paired:
                    size = f"{'' if found.bytes else '~'}{sized(found.about)}"
                    emit(f"  {each:<16}{size:>8}  A {found.a}, B {found.b}")
        emit("fetch one: twofold data download NAME")
        return
    from twofold.data.download import download as fetch

    folder = fetch(name, out, archive, emit, tracked)
    emit(f"{name} is in {folder}")
    for preset in [each for each, recipe in PRESETS.items() if recipe.data == name]:
        emit(f"train: {preset_commands(preset, folder)[-1]}")
