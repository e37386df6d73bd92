"""Runs of version 0.1 still translate to the same bytes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twofold.translation.translator import Translator

RUNS = Path(__file__).parents[1] / "old_runs"
EXPECTED = sorted(RUNS.glob("*/expected/*.png"))


def source(expected: Path) -> Image.Image:
    """The image that was translated to this one; of a pair, the left half."""
    direction, _, name = expected.stem.partition("-")
    images = expected.parents[1] / "images"
    if not (images / "trainA").is_dir():
        pair = Image.open(images / f"{name}.png").convert("RGB")
        return pair.crop((0, 0, pair.width // 2, pair.height))
    return Image.open(images / f"train{direction[0].upper()}" / f"{name}.png")


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda path: f"{path.parents[1].name} {path.stem}")
def test_translations_are_the_same_bytes(expected: Path) -> None:
    run, direction = expected.parents[1], expected.stem[:2]
    translator = Translator.load(run, direction=direction, device="cpu")
    translator.generator = pickle.loads(pickle.dumps(translator.generator))  # with torch's own layers
    made = translator(source(expected))
    assert np.array_equal(np.asarray(made), np.asarray(Image.open(expected).convert("RGB")))


def test_all_translations_are_there() -> None:
    assert len(EXPECTED) == 6
