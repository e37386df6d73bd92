"""`twofold demo`: the built-in pictures, trained on and translated."""

from pathlib import Path

from twofold.cli.options import Flag
from twofold.cli.terminal import watcher
from twofold.errors import INTERRUPTED


def demo(*, out: Path = Path("demo"), quick: Flag = False) -> int:
    """Draw the built-in pictures, train on them, translate, and print how good the result is. A few minutes.

    Args:
        out: Folder for the pictures, the run and the translations.
        quick: Train a few steps only, to see that everything works.
    """
    from twofold.demo import demonstrate

    with watcher(False) as watching:
        finished = demonstrate(out, quick, watching.notify, watching.progress, watching.track)
    return 0 if finished else INTERRUPTED
