"""What every test shares: one thread each (the tests run side by side), a cache folder of their own, no settings around."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(scope="session")
def load_benchmark() -> Iterator[Callable[[str], ModuleType]]:
    """Makes a module of a program in benchmarks/, which is no package: load_benchmark("plain")."""
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(
            spec
        )  # where dataclasses look it up
        loaded.append(spec.name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        sys.modules.pop(name, None)


def cache(factory: pytest.TempPathFactory) -> Path:
    return factory.getbasetemp() / "cache"
