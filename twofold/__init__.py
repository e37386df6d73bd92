"""Train models that translate images of one kind into images of another, from two folders of images.

import twofold

run = twofold.train("horses", "zebras", out="runs/h2z", epochs=20)
zebra = twofold.load("runs/h2z")("horse.jpg")
"""

from typing import TYPE_CHECKING

from twofold.errors import TwofoldError, UsageError

if TYPE_CHECKING:
    from twofold.evaluation.evaluate import evaluate
    from twofold.exchange.load import load
    from twofold.exporting.export import export
    from twofold.training.train import train
    from twofold.translation.translator import Translator

    __version__: str

__all__ = ["Translator", "TwofoldError", "UsageError", "__version__", "evaluate", "export", "load", "train"]

LAZY = {
    "Translator": "twofold.translation.translator",
    "evaluate": "twofold.evaluation.evaluate",
    "export": "twofold.exporting.export",
    "load": "twofold.exchange.load",
    "train": "twofold.training.train",
}
"""Names that are imported when they are first used, so that `import twofold` does not load torch."""


def __getattr__(name: str) -> object:
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("twofold")
    if name in LAZY:
        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module 'twofold' has no attribute {name!r}")
