"""Functions that a run calls, and the trace of torch's profiler."""

import json

import pytest

from twofold import train as train_from_python
from twofold.runs import Run, read_lines

ROOMS = {
    "generator": {"width": 2, "blocks": 1},
    "discriminator": {"width": 2, "layers": 1},
    "training": {"samples": 1, "report_every": 2, "snapshot_every": 3},
    "machine": {"threads": 1, "precision": "float32"},
}


@pytest.fixture
def trained(lab, tmp_path):
    def train(**callbacks):
        settings = {"size": 16, "epochs": 2, "decay_epochs": 0, "settings": ROOMS | {"optim.lr": 1e-4}}
        return train_from_python(lab.a, lab.b, out=tmp_path / "run", **settings, **callbacks)

    return train


def test_arguments(trained):
    reports, samples, snapshots = [], [], []
    run = trained(
        on_report=reports.append,
        on_sample=lambda *given: samples.append((*given, given[2].is_file())),
        on_snapshot=lambda *given: snapshots.append((*given, given[2].is_file())),
    )
    assert [report["images"] for report in reports] == [2, 4, 6]
    assert reports[-1].items() >= read_lines(run.metrics)[-1].items()
    assert reports[0]["lr"] == 1e-4
    assert reports[-1].items() >= read_lines(run.timing)[-1].items()
    both = [(images, way) for images in (3, 6) for way in ("ab", "ba")]
    assert snapshots == [(images, way, run.snapshot(images, way), True) for images, way in both]
    assert samples == [(6, way, run.sample(6, way), True) for way in ("ab", "ba")]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("moment", ["on_report", "on_sample", "on_snapshot"])
def test_an_exception_ends_the_run_with_everything_saved(trained, moment, kind, tmp_path):
    calls, lines = [], []

    def fail(*given):
        calls.append(given)
        raise kind("the disk of the tracker is full")

    with pytest.raises(kind, match="tracker"):
        trained(**{moment: fail, "notify": lines.append})
    assert len(calls) == 1
    run, images = Run(tmp_path / "run"), {"on_report": 2, "on_snapshot": 3, "on_sample": 6}[moment]
    assert [saved for saved, _ in run.states()][-1] == images
    assert any("everything is saved" in line for line in lines) == (images < 6)
    resumed = trained()
    assert [row["images"] for row in read_lines(resumed.metrics)] == [2, 4, 6]
    assert resumed.newest_snapshot("ba") == resumed.snapshot(6, "ba")


def test_profile(lab, tmp_path, command):
    out = tmp_path / "run"
    ended = command(*lab.tokens(out, epochs=6, decay_epochs=0), "--profile")
    assert ended.code == 0
    file = Run(out).profile(16)
    assert f"profile of 10 steps: {file}" in ended.output
    events = json.loads(file.read_text())["traceEvents"]
    steps = {event["name"] for event in events if event.get("name", "").startswith("ProfilerStep#")}
    assert len(steps) == 10
    assert any("convolution" in event.get("name", "") for event in events)
    again = command("train", "--resume", out, "--epochs", "7", "--profile")
    assert again.code == 0 and "no profile: the run ended before step 7" in again.output
