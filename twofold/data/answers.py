"""Whether images of equal names in two folders are answers to each other: the user or a marker in the data set says so."""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from twofold.data.manifest import File, Manifest
from twofold.data.rules import some
from twofold.errors import UsageError
from twofold.files import write_atomically
from twofold.read_untrusted import as_list, mapping

MARKER = "twofold.json"
"""The file in a dataset root that names the folders whose images of equal names are answers to each other."""


def write_marker(root: Path, answers: Iterable[tuple[str, str]]) -> None:
    """Record in a dataset root which two of its folders hold answers to each other under equal names.

    Raises:
        OSError: the disk refused.
    """
    content = {"answers_by_name": [list(pair) for pair in answers]}
    write_atomically(root / MARKER, json.dumps(content) + "\n")


def have_answers(a: Path, b: Path) -> bool:
    """Whether the marker beside two folders says that their images of equal names are answers to each other."""
    a, b = a.expanduser().resolve(), b.expanduser().resolve()
    if a.parent != b.parent:
        return False
    pairs = as_list(mapping(a.parent / MARKER).get("answers_by_name"))
    return [a.name, b.name] in pairs or [b.name, a.name] in pairs


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
