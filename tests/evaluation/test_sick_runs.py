"""Whole trainings that the guide shows: the doctor names the one that is ill, and not the healthy one."""

import importlib.util
from pathlib import Path

import pytest

from twofold.evaluation.doctor import examine

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sick_runs.py"


@pytest.fixture(scope="module")
def sick_runs():
    spec = importlib.util.spec_from_file_location("sick_runs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pictures(sick_runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sick") / "seasons"
    sick_runs.make_pictures(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [("healthy", set()), ("copies", {"A→B copies"}), ("checkerboard", {"A→B checkerboard"})],
)
def test_a_training_of_the_guide(sick_runs, pictures, tmp_path, name, expected):
    found = {finding.name for finding in examine(sick_runs.train(name, tmp_path, pictures), models=True)}
    assert found >= expected and bool(found) == bool(expected)
