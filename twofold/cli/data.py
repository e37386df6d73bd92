"""`twofold data check`, `make` and `download`."""

from json import dumps
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from twofold.cli.options import Flag, Listed, Whole
from twofold.cli.terminal import emit, paragraph, tracked
from twofold.errors import FAILED, UsageError
from twofold.presets import PRESETS
from twofold.presets import commands as preset_commands

ALONE = "no errors; to train, give the folder of the other domain too: `twofold train A B`"


def check(
    a: Path,
    b: Path | None = None,
    /,
    *,
    size: Whole = 256,
    paired: Flag = False,
    pairs: str | None = None,
    labels_a: Flag = False,
    labels_b: Flag = False,
    layout: Annotated[Literal["hwc", "chw"], Parameter(name=["--data.layout", "--layout"])] = "hwc",
    test: Annotated[list[Path] | None, Listed] = None,
    json: Flag = False,
) -> int:
    """Check one or two folders of images for training: print their use, read each image, list every problem.

    The exit code is 0 if training would start, and 1 if not; of one folder alone, 0 if it has no errors.

    Args:
        a: A folder of images, or a dataset root with trainA and trainB, A/train and B/train, or train and val of pairs;
            for pairs also a folder of both images, or a list (.csv, .tsv, .jsonl).
        b: The folder of the other domain.
        size: The training size in pixels.
        paired: The images are pairs.
        pairs: How one folder holds pairs: halves, or two suffixes such as jpg:png. Default: detected.
        labels_a: A is label maps: find their classes.
        labels_b: B is label maps.
        layout: Axes of arrays in .npy and .npz files.
        test: Folders of test images, which must not be trained on.
        json: Print JSON.
    """
    from twofold.data import check as checks
    from twofold.data.rules import Problem
    from twofold.data.settings import DataSettings

    settings = DataSettings(
        size=size,
        paired=paired or pairs is not None,
        pairs=pairs,
        labels_a=labels_a,
        labels_b=labels_b,
        layout=layout,
    )
    try:
        checked = checks.check(a, b, settings, test=test or [], track=tracked)
    except UsageError as error:
        if not all(path.exists() for path in (a, b, *(test or [])) if path is not None):
            raise
        checked = checks.Checked({}, None, [Problem("error", "refused", "", str(error), [])], "", {})
    if json:
        problems = [problem._asdict() | {"text": problem.text} for problem in checked.problems]
        emit(dumps(checked._asdict() | {"problems": problems, "ready": checked.ready}))
    else:
        if checked.layout:
            emit(paragraph(checked.layout))
        if checked.pairs:
            emit(paragraph(checked.pairs))
        for label, found in checked.folders.items():
            emit(f"{label}  {found['folder']}")
            emit(paragraph(checks.sentence(found), "   ", "   "))
        for use, amount in checked.uses.items():
            emit(paragraph(f"{use + ':':<12}{amount}", "", " " * 12))
        for problem in checked.problems:
            emit(paragraph(f"{problem.severity}: {problem.text}", "-  ", "   "))
        ready = "ready to train" if "B" in checked.folders else ALONE
        emit(ready if checked.ready else "not ready: `twofold train` would stop at the errors above")
    return 0 if checked.ready else FAILED


def make(
    what: Literal["seasons"],
    out: Path,
    /,
    *,
    count: Whole = 400,
    size: Whole = 128,
    seed: Whole = 0,
    bits: Whole = 8,
) -> None:
    """Draw the built-in images: summer and winter landscapes, with known answers in val and test.

    Args:
        what: The data set.
        out: A new folder; trainA, trainB, valA, valB, testA and testB are created in it.
        count: Images in each of trainA and trainB.
        size: Height and width of each image in pixels.
        seed: Another seed gives other images.
        bits: Bits of a value, 8 to 16.
    """
    from twofold.seasons.dataset import make as make_seasons

    assert what == "seasons"
    make_seasons(out, count, size, seed, emit, bits=bits, track=tracked)


def download(
    name: str | None = None,
    /,
    *,
    out: Path | None = None,
    archive: Annotated[Path | None, Parameter(name="--from")] = None,
) -> None:
    """Download a data set of the papers from its authors' server; without NAME, list the data sets.

    Args:
        name: The data set.
        out: The folder to create. Default: NAME in the current folder.
        archive: A downloaded archive to unpack in place of downloading one.
    """
    from twofold.data.download import download as fetch_and_unpack

    if name is None:
        if out or archive:
            raise UsageError("NAME is missing; see `twofold data download --help`")
        _list_published()
        return
    folder = fetch_and_unpack(name, out, archive, emit, tracked)
    emit(f"{name} is in {folder}")
    for preset in [each for each, recipe in PRESETS.items() if recipe.data == name]:
        emit(f"train: {preset_commands(preset, folder)[-1]}")


def _list_published() -> None:
    from twofold.data.published import PUBLISHED
    from twofold.fetch import sized

    for paired, layout in ((False, "two folders, trainA and trainB:"), (True, "pairs, in train:")):
        emit(layout)
        for name, found in PUBLISHED.items():
            if found.paired == paired:
                size = f"{'' if found.sha256 else '~'}{sized(found.about)}"
                emit(f"  {name:<16}{size:>8}  A {found.a}, B {found.b}")
    emit("fetch one: twofold data download NAME")
