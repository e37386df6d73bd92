from pathlib import Path

import numpy as np
import pytest

from twofold.data.build import build_manifest
from twofold.data.reopen import Given, reopen
from twofold.data.settings import DataSettings
from twofold.formats import images


@pytest.fixture
def fill(tmp_path):
    """Write seeded images into a folder below tmp_path: fill("A", 5, size=(width, height), channels=3)."""

    def make(name, count, size=(20, 16), channels=3, suffix="png", first=0) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for i in range(first, first + count):
            rng = np.random.default_rng([i, *name.encode()])
            image = rng.integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
            images.write(image, folder / f"{i}.{suffix}")
        return folder

    return make


@pytest.fixture
def small(tmp_path):
    """Settings of 8 px crops with a cache of their own: small(flip=False)."""

    def make(**changes) -> DataSettings:
        given = {"size": 8, "resize": "resize-and-crop", "cache_dir": tmp_path / "cache"}
        return DataSettings(**given | changes)

    return make


@pytest.fixture
def build(small):
    """Build a manifest, and return it with the lines that were printed."""

    def run(a, b, seed=0, multiple_of=4, **changes):
        lines = []
        return build_manifest(a, b, small(**changes), seed, lines.append, multiple_of=multiple_of), lines

    return run


@pytest.fixture
def given(small):
    """Makes the folders of a manifest as a user names them: given(manifest, cache=False)."""

    def make(manifest, **changes) -> Given:
        named = {}
        for side, domain in (("a", manifest.a), ("b", manifest.b)):
            named |= {f"val_{side}": domain.val.path} if domain.val else {}
            named |= {f"masks_{side}": domain.masks.path} if domain.masks else {}
        a, b = (each.folder.path / each.folder.source for each in (manifest.a, manifest.b))
        return Given(a, b, small(**named, **changes))

    return make


@pytest.fixture
def changes(given):
    """The differences of a manifest's images to those of now."""

    def find(manifest):
        named = given(manifest, cache=False)
        return reopen(manifest, named, named, lambda line: None)[1]

    return find
