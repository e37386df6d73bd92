"""twofold: two folders of images in, a translator out.

import twofold
run = twofold.train("horses", "zebras", out="runs/h2z", epochs=20)
zebra = twofold.Translator.load("runs/h2z")("horse.jpg")
"""

from typing import TYPE_CHECKING

from twofold.errors import TwofoldError, UsageError

if TYPE_CHECKING:
    from twofold.training.api import train
    from twofold.translation.translator import Translator

__all__ = ["Translator", "TwofoldError", "UsageError", "train"]


def __getattr__(name: str) -> object:
    # Looked up when first used, so that `import twofold` and `twofold --help` do not wait for torch.
    if name == "Translator":
        from twofold.translation.translator import Translator

        return Translator
    if name == "train":
        from twofold.training.api import train

        return train
    raise AttributeError(f"module 'twofold' has no attribute {name!r}")
