"""Stopped anywhere in any way, a run that goes on ends as if nothing had happened, to the bit."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from twofold.runs import Run, read_lines

MACHINES = {
    "plain": {},
    "fused float32": {"machine__channels_last": True, "machine__fused": True},
    "fused bf16": {"machine__channels_last": True, "machine__fused": True, "machine__precision": "bf16"},
}


def states(out):
    return [images for images, _ in Run(out).states()]


def leftovers(out):
    return [path.name for path in (out / "states").iterdir() if not path.name.isdigit()]


@pytest.mark.parametrize(
    "kills",
    [
        [("before config", 2), ("in state.store", 1), ("after step", 2), ("before rename", 1)],
        [("after rename", 1), ("in metrics", 1), ("in state.store", 2), ("in snapshot", 1)],
        [("in state.store", 3), ("after rename", 1), ("in metrics", 2), ("before rename", 1)],
    ],
)
def test_kills_where_it_hurts(lab, finished, tmp_path, kills):
    out = tmp_path / "run"
    for kill in kills:
        before = states(out)
        ended = lab.run(lab.tokens(out), kill)
        assert ended.code == -signal.SIGKILL, (kill, ended.output)
        assert not before or before[-1] in states(out), "the newest state was lost"
    assert lab.run(lab.tokens(out)).code == 0
    assert lab.outcome(out) == lab.outcome(finished)
    assert states(out) == [9, 12]
    assert leftovers(out) == []


@pytest.mark.parametrize("machine", MACHINES)
def test_kills_at_random_moments(lab, tmp_path, machine):
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    began = time.monotonic()
    assert lab.run(lab.tokens(undisturbed, **MACHINES[machine])).code == 0
    took = time.monotonic() - began
    seed = random.randrange(10**6)
    delays = random.Random(seed)
    for _ in range(3):
        ended = lab.run(lab.tokens(out, **MACHINES[machine]), seconds=delays.uniform(0.3, 0.8) * took)
        assert ended.code in (-signal.SIGKILL, 0), ended.output
    assert lab.run(lab.tokens(out, **MACHINES[machine])).code == 0
    assert lab.outcome(out) == lab.outcome(undisturbed), f"seed {seed}"


@pytest.mark.parametrize(("name", "step"), [("SIGINT", 3), ("SIGTERM", 5)])
def test_a_signal_saves_and_stops(lab, finished, tmp_path, name, step):
    out = tmp_path / "run"
    ended = lab.run(lab.tokens(out), (name, step))
    assert ended.code == 130
    assert f"stopped at {step} of 12 images; everything is saved" in ended.output
    assert f"resume:     twofold train --resume {out}" in ended.output
    assert states(out)[-1] == step
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"images": 8, "epo')  # a torn last line
    (out / "snapshots").mkdir(exist_ok=True)
    (out / "snapshots" / ".000000006-ab.safetensors").touch()  # of a save that was killed
    assert lab.run(["train", "--resume", str(out)]).code == 0
    assert lab.outcome(out) == lab.outcome(finished)


OPTIONS = {
    "accumulate": {"training__accumulate": 2},
    "accumulate three": {"training__accumulate": 3, "optim__clip": 0.1},
    "clip": {"optim__clip": 0.1},
    "weight decay": {"optim__weight_decay": 0.5, "machine__fused": True, "machine__channels_last": True},
    "warm-up": {"training__warmup": 7},
    "cosine": {"training__schedule": "cosine", "epochs": 1, "decay_epochs": 3},
    "step": {"training__schedule": "step", "training__step_epochs": 0.5},
    "constant": {"training__schedule": "constant"},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_stopped_with_options(lab, finished, tmp_path, option):
    """Equal to the undisturbed run, and unequal to one without the option."""
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    assert lab.run(lab.tokens(undisturbed, **OPTIONS[option])).code == 0
    assert lab.run(lab.tokens(out, **OPTIONS[option]), ("after step", 5)).code == -signal.SIGKILL
    assert lab.run(lab.tokens(out, **OPTIONS[option]), ("SIGTERM", 4)).code == 130
    assert lab.run(["train", "--resume", str(out)]).code == 0
    assert lab.outcome(out) == lab.outcome(undisturbed)
    last = "snapshots/000000012-ab.safetensors"
    assert lab.outcome(out)[last] != lab.outcome(finished)[last]
    assert states(out)[-1] == 12


def test_equal_runs_in_two_processes_write_equal_bytes(finished, lab, tmp_path, command):
    assert command(*lab.tokens(tmp_path / "here")).code == 0
    assert lab.outcome(tmp_path / "here") == lab.outcome(finished)


def test_longer_run_equals_one_stopped_between(lab, finished, tmp_path, command):
    """The schedule is constant up to image 6, so a run of 6 images is the beginning of one of 12."""
    out = tmp_path / "run"
    assert command(*lab.tokens(out, decay_epochs=0)).code == 0
    assert states(out) == [3, 6]
    assert command("train", "--resume", out, "--decay-epochs", "2").code == 0
    mine, theirs = lab.outcome(out), lab.outcome(finished)
    logs = [json.loads(line) for line in mine.pop("metrics.jsonl").splitlines()]
    assert [row["images"] for row in logs] == [4, 6, 8, 12]  # the end of the first run reports, too
    assert logs[-1] == json.loads(theirs.pop("metrics.jsonl").splitlines()[-1])
    for name, content in theirs.items():
        assert mine[name] == content, name


def test_damaged_newest_state_falls_back_and_says_so(lab, finished, tmp_path, command):
    out = tmp_path / "run"
    lab.run(lab.tokens(out), ("after step", 8))
    assert states(out) == [3, 6]
    tensors = Run(out).state(6) / "state.safetensors"
    os.truncate(tensors, tensors.stat().st_size - 1)
    ended = command(*lab.tokens(out))
    assert ended.code == 0
    assert "cannot read the state at 6 images" in ended.output
    assert "loaded the one at 3" in ended.output
    assert "resuming" in ended.output and "3 of 12 images seen" in ended.output
    assert leftovers(out) == ["damaged-000000006"]
    assert lab.outcome(out) == lab.outcome(finished)


def test_no_state_left_is_refused(copied, command):
    for _, folder in Run(copied).states():
        (folder / "state.safetensors").write_bytes(b"nothing")
    ended = command("train", "--resume", copied)
    assert ended.code == 1
    assert ended.output.count("\n") == 1
    assert "cannot read any state" in ended.output and "000000009" in ended.output


@pytest.mark.parametrize("sabotage", [("full disk", 3), ("small files", 7)])
def test_no_space_left(lab, finished, tmp_path, sabotage):
    out = tmp_path / "run"
    ended = lab.run(lab.tokens(out), sabotage)
    assert ended.code == 1
    assert ended.output.splitlines()[-1].startswith(f"twofold: no space left under {out}")
    assert "Traceback" not in ended.output
    assert states(out) == [3, 6]
    assert leftovers(out) == []
    assert lab.run(lab.tokens(out)).code == 0
    assert lab.outcome(out) == lab.outcome(finished)


def test_two_processes_on_one_run(lab, tmp_path, command):
    out = tmp_path / "run"
    lab.start(lab.tokens(out, epochs=500))
    deadline = time.monotonic() + 300
    while not read_lines(out / "metrics.jsonl") and time.monotonic() < deadline:
        time.sleep(0.02)
    ended = command("train", "--resume", out)
    assert lab.kill().code == -signal.SIGKILL
    assert ended == (
        1,
        f"twofold: another process is training {out}; stop it, or choose another --out\n",
    )


def test_a_new_schedule_is_printed(copied, command):
    """The rate had reached zero and rises again."""
    ended = command("train", "--resume", copied, "--decay-epochs", "3")
    assert ended.code == 0
    line = next(line for line in ended.output.splitlines() if "new schedule" in line)
    assert line == (
        "new schedule: 0.0002 up to image 6, then linear to 0 at image 15; the learning rate at 12 images was 0 and is"
        " now 6.67e-05"
    )
    again = command("train", "--resume", copied, "--training.report-every", "5")
    assert "new schedule" not in again.output


def test_a_finished_run_says_so(copied, command):
    ended = command("train", "--resume", copied)
    assert ended.code == 0
    assert "finished with 12 images" in ended.output


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (["--optim.lr", "1e-3"], "optim.lr = 0.0002, not 0.001"),
        (["--size", "32"], "data.size = 16, not 32"),
        (["--seed", "1"], "seed = 0, not 1"),
        (["--cyclegan.identity", "0"], "cyclegan.identity = 0.5, not 0.0"),
        (["--preset", "gan-alone"], "preset = none, not gan-alone"),
        (["--machine.precision", "bf16"], "machine.precision = float32, not bf16"),
    ],
)
def test_other_settings_are_refused(finished, command, said, named):
    ended = command("train", "--resume", finished, *said)
    assert ended.code == 2
    assert named in ended.output
    assert ended.output.count("\n") == 1


def test_settings_that_may_change(copied, command):
    more = ("--decay-epochs", "3", "--training.report-every", "1", "--training.state-every", "2")
    ended = command("train", "--resume", copied, *more, "--data.workers", "1")
    assert ended.code == 0
    assert [row["images"] for row in read_lines(copied / "metrics.jsonl")] == [4, 8, 12, 13, 14, 15]
    assert states(copied) == [14, 15]
    assert "decay_epochs: 3.0" in (copied / "config.yaml").read_text()


@pytest.mark.parametrize(("change", "named"), [("add", "new.png was added"), ("remove", "1.png was removed")])
def test_changed_folders_are_refused(lab, many, tmp_path, command, change, named):
    folders = [many(tmp_path / name, 2) for name in "AB"]
    tokens = lab.tokens(tmp_path / "run", epochs=1, decay_epochs=0)
    assert command("train", *folders, *tokens[3:]).code == 0
    if change == "add":
        shutil.copy(folders[0] / "0.png", folders[0] / "new.png")
    else:
        (folders[1] / "1.png").unlink()
    ended = command("train", "--resume", tmp_path / "run")
    assert ended.code == 2
    assert named in ended.output


def test_newer_format_is_refused(copied, command):
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("format: 1", "format: 2"))
    ended = command("train", "--resume", copied)
    assert ended.code == 2
    assert "has format 2" in ended.output and "update twofold" in ended.output


def test_a_state_without_the_part_of_another_process_is_not_loaded(copied, command):
    for _, folder in Run(copied).states():
        progress = folder / "progress.json"
        progress.write_text(progress.read_text().replace('"ranks": 1', '"ranks": 2'))
    ended = command("train", "--resume", copied)
    assert ended.code == 1
    assert "cannot read any state" in ended.output and "rank1.safetensors" in ended.output


@pytest.mark.parametrize("name", ["config.yaml", "data.json"])
def test_damaged_files_of_the_run(copied, command, name):
    (copied / name).write_text("{")
    ended = command("train", "--resume", copied)
    assert ended.code in (1, 2)
    assert ended.output.count("\n") == 1


def test_state_of_other_networks_is_refused(copied, command):
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("width: 2", "width: 3"))
    ended = command("train", "--resume", copied)
    assert ended.code == 1
    assert "does not fit the networks in config.yaml" in ended.output


def test_bad_input_leaves_nothing_behind(lab, tmp_path, command):
    for tokens in (
        ("train", tmp_path / "missing", lab.b),
        ("train", lab.a, lab.a),
        ("train", lab.a, lab.b, "--size", "18"),
        ("train", lab.a, lab.b, "--size", "8", "--discriminator.layers", "3"),
    ):
        ended = command(*tokens, "--out", tmp_path / "run")
        assert ended.code == 2
        assert ended.output.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_out_that_cannot_be_made(lab, tmp_path, command):
    (tmp_path / "file").write_text("")
    ended = command(*lab.tokens(tmp_path / "file" / "run"))
    assert ended.code == 2
    assert "cannot write to" in ended.output


def test_folder_of_something_else_is_refused(lab, tmp_path, command):
    other = Path(tmp_path / "other")
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    ended = command(*lab.tokens(other))
    assert ended.code == 2
    assert "holds no run" in ended.output
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
