"""The same reports for other programs: as in the logs, after kills and resumes too."""

import csv
import json

import pytest

from twofold.runs import Run, read_lines
from twofold.training import exporters


def rows(run):
    """What metrics.csv should hold: each line of both logs, as text."""
    pairs = zip(read_lines(run.metrics), read_lines(run.timing), strict=True)
    return [{name: str(value) for name, value in exporters.flat(*pair).items()} for pair in pairs]


def scalars(run):
    """(images, value) of each curve in RUN/tensorboard, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    found = {
        name: [(each.step, each.value) for each in events.Scalars(name)] for name in events.Tags()["scalars"]
    }
    return found, events.Tags()["images"]


def in_csv(run):
    with (run.path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def disturbed(lab):
    """A run killed between two states, after reports that the state before it knows nothing of, and gone on with."""
    out = lab.home / "logged"
    tokens = [*lab.tokens(out, training__report_every=2), "--log", "csv", "tensorboard"]
    assert lab.run(tokens, sabotage=("after step", 8)).code == -9
    assert lab.run(tokens).code == 0
    return Run(out)


def test_a_csv_has_a_row_a_report_after_a_kill(disturbed):
    assert [row["images"] for row in in_csv(disturbed)] == ["2", "4", "6", "8", "10", "12"]
    assert in_csv(disturbed) == rows(disturbed)


def test_tensorboard_shows_each_report_once_after_a_kill(disturbed):
    found, grids = scalars(disturbed)
    metrics = read_lines(disturbed.metrics)
    assert set(found) >= {"lr", "epoch", "images_per_s", "losses/gan_ab", "losses/disc_b"}
    for name in metrics[0]["losses"]:
        expected = [(row["images"], pytest.approx(row["losses"][name])) for row in metrics]
        assert found[f"losses/{name}"] == expected
    assert sorted(grids) == ["samples/ab", "samples/ba"]


def test_a_target_added_later_gets_what_was_before(lab, copied):
    run = Run(copied)
    lab.run(["train", "--resume", str(copied), "--epochs", "3", "--log", "tensorboard", "csv"])
    assert in_csv(run) == rows(run)
    found, _ = scalars(run)
    assert [images for images, _ in found["lr"]] == [row["images"] for row in read_lines(run.metrics)]
    assert len(found["lr"]) == 4


def test_a_target_asked_for_after_the_end_gets_all(command, copied):
    run = Run(copied)
    for _ in range(2):  # the second time changes nothing
        assert command("train", "--resume", copied, "--log", "csv", "tensorboard").code == 0
        assert in_csv(run) == rows(run)
        found, _ = scalars(run)
        assert [images for images, _ in found["lr"]] == [4, 8, 12]


def test_a_loss_that_comes_later_gets_a_column(tmp_path):
    run = Run(tmp_path)
    target = exporters.Csv(run, [{"images": 1.0, "losses/a": 0.5}])
    target.report({"images": 2.0, "losses/a": 0.25, "losses/b": 7.0})
    target.report({"images": 3.0, "losses/b": 8.0})
    assert [row["losses/b"] for row in in_csv(run)] == ["", "7.0", "8.0"]


def test_what_stopped_a_run_is_no_report(tmp_path):
    run = Run(tmp_path)
    run.metrics.write_text(json.dumps({"images": 3, "not_finite": ["gan_ab"]}) + "\n")
    assert list(exporters.reports(run)) == []


def test_a_missing_package_is_named_before_anything_is_written(lab, tmp_path, command, monkeypatch):
    monkeypatch.setattr(exporters, "find_spec", lambda name: None)
    ended = command(*lab.tokens(tmp_path / "run"), "--log", "tensorboard")
    assert ended.code == 2 and "pip install 'twofold[tensorboard]'" in ended.output
    assert not (tmp_path / "run").exists()
    assert command(*lab.tokens(tmp_path / "run"), "--log", "tensorbord").code == 2
