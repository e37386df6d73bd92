"""What every test shares: one thread each (the tests run side by side), a cache folder of their own, no settings around."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_surroundings(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("TWOFOLD_CACHE", str(cache(tmp_path_factory)))
    for name in [name for name in os.environ if name.startswith("TWOFOLD_SET_")]:
        monkeypatch.delenv(name)
    yield


def cache(factory: pytest.TempPathFactory) -> Path:
    return factory.getbasetemp() / "cache"
