"""Whole trainings that the guide shows: the doctor names the one that is ill, and not the healthy one."""

from pathlib import Path

import pytest

from twofold.evaluation.doctor.examine import examine

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "reading-a-run.md"


@pytest.fixture(scope="module")
def sick_runs(load_benchmark):
    return load_benchmark("sick_runs")


@pytest.fixture(scope="module")
def pictures(sick_runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sick") / "seasons"
    sick_runs.make_pictures(folder)
    return folder


def test_the_guide_shows_the_commands_that_made_its_pictures(sick_runs):
    joined = GUIDE.read_text().replace("\\\n", " ").splitlines()
    lines = [line.split() for line in joined if line.startswith("    twofold train")]
    said = {Path(line[line.index("--out") + 1]).name: line[line.index("--out") + 2 :] for line in lines[:-1]}
    assert said == sick_runs.RECIPES
    for name in sick_runs.RECIPES:
        assert f"(run-{name}.webp)" in GUIDE.read_text()
        assert (GUIDE.parent / f"run-{name}.webp").stat().st_size < 60_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [("healthy", set()), ("copies", {"copies"}), ("checkerboard", {"checkerboard"})],
)
def test_a_training_of_the_guide(sick_runs, pictures, tmp_path, name, expected):
    """In which direction first is a matter of rounding: such trainings amplify it."""
    findings = examine(sick_runs.train(name, tmp_path, pictures), models=True)
    found = {finding.name.removeprefix("A→B ").removeprefix("B→A ") for finding in findings}
    assert found >= expected and bool(found) == bool(expected)
