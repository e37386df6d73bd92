"""Whether images of equal names in two folders are answers to each other: the user or a marker in the data set says so."""

from pathlib import PurePosixPath

from twofold.data.manifest import File, Manifest
from twofold.data.marker import have_answers
from twofold.data.rules import some
from twofold.errors import UsageError


def answered_by_name(manifest: Manifest, paired: bool) -> bool:
    """Whether the held-out sets of a run on unpaired images are answers to each other.

    Raises:
        UsageError: the user says so, and there are no such sets, or their names differ.
    """
    a, b = manifest.a.val, manifest.b.val
    if a is None or b is None:
        if paired:
            raise UsageError(
                "--paired says that held-out images are pairs: give --val A B; to train on pairs: --method pix2pix"
            )
        return False
    if paired and not equal_names(manifest):
        alone = {_stem(file) for file in a.good} ^ {_stem(file) for file in b.good}
        raise UsageError(
            f"--paired needs equal names in {a.path} and {b.path}; only one of them has {some(sorted(alone))}"
        )
    return paired or (have_answers(a.path, b.path) and equal_names(manifest))


def equal_names(manifest: Manifest) -> bool:
    """Whether the held-out images of both domains, in folders of their own, have the same names up to the suffix."""
    a, b = manifest.a.val, manifest.b.val
    return a is not None and b is not None and [*map(_stem, a.good)] == [*map(_stem, b.good)]


def _stem(file: File) -> str:
    return PurePosixPath(file.name).with_suffix("").as_posix()
