"""Several processes: the same training as one, and one set of outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from twofold.runs import Run, read_lines

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_two_ranks_with_one_image_each_equal_one_with_two(tmp_path):
    program = Path(__file__).with_name("two_ranks.py")
    ended = subprocess.run(
        [sys.executable, program, tmp_path], env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)
    assert figures.keys() == {"cyclegan", "pix2pix", "cut"}
    for name, each in figures.items():
        assert each["between ranks"] == 0, name
        assert each["to one process"] < 1e-9, (name, each)
        assert each["moved"] > 1e-3, name


@pytest.fixture(scope="module")
def by_two(lab) -> Path:
    """A run of 12 images in 6 steps by two processes."""
    out = lab.home / "by-two"
    assert lab.run(lab.tokens(out, training__state_every=4), ranks=2).code == [0, 0], lab.log.read_text()
    return out


def test_one_set_of_outputs(lab, by_two):
    run = Run(by_two)
    assert [images for images, _ in run.states()] == [8, 12]
    assert [row["images"] for row in read_lines(run.metrics)] == [4, 8, 12]
    assert [images for images, _ in run.snapshots("ab")] == [6, 12]
    assert json.loads(run.env.read_text())[0]["processes"] == 2
    assert {path.name for path in run.state(12).iterdir()} == {
        *("state.safetensors", "rank1.safetensors", "progress.json")
    }
    said = lab.log.read_text()
    assert said.count("training: cyclegan") == 1
    assert said.count("12/12 images") == 1


def test_resume_is_exact(lab, by_two, tmp_path):
    out, tokens = tmp_path / "run", lab.tokens(tmp_path / "run", training__state_every=4)
    for kill in (("after step", 3), ("in state.store", 1)):
        assert 0 not in lab.run(tokens, kill, ranks=2).code
        assert [images for images, _ in Run(out).states()] == [4]
    assert lab.run(tokens, ranks=2).code == [0, 0]
    assert lab.outcome(out) == lab.outcome(by_two)


def test_both_stop_together(lab, tmp_path):
    out, tokens = tmp_path / "run", lab.tokens(tmp_path / "run", epochs=20)
    ended = lab.run(tokens, ("SIGTERM", 3), ranks=2)
    assert ended.code == [130, 130]
    assert ended.output.count("stopped at 8 of 66 images") == 1  # asked after the third step, told with the fourth
    assert ended.output.count("torchrun --nproc-per-node=2 -m twofold train --resume") == 1
    assert Run(out).states()[-1][0] == 8


def test_a_damaged_part_of_one_rank_makes_all_fall_back(lab, by_two, tmp_path):
    out, tokens = tmp_path / "run", lab.tokens(tmp_path / "run", training__state_every=4)
    lab.run(tokens, ("after step", 5), ranks=2)
    assert [images for images, _ in Run(out).states()] == [4, 8]
    part = Run(out).state(8) / "rank1.safetensors"
    os.truncate(part, part.stat().st_size // 2)
    ended = lab.run(tokens, ranks=2)
    assert ended.code == [0, 0]
    assert ended.output.count("cannot read the state at 8 images (another process") == 1
    assert lab.outcome(out) == lab.outcome(by_two)


def test_another_number_of_processes_is_refused(lab, by_two, command):
    ended = command("train", "--resume", by_two)
    assert ended.code == 1
    assert "trained by 2 processes" in ended.output and "--nproc-per-node=2" in ended.output


def test_a_refusal_ends_all_processes(lab, tmp_path):
    ended = lab.run(lab.tokens(tmp_path / "run", size=18), ranks=2)
    assert ended.code == [2, 1]
    assert ended.output.count("multiples of 4") == 1
    assert "Traceback" not in ended.output
    assert not (tmp_path / "run").exists()


def test_under_torchrun(lab, by_two, tmp_path):
    tokens = lab.tokens(tmp_path / "run", training__state_every=4)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "twofold")
    ended = subprocess.run(
        [sys.executable, *launcher, *tokens],
        env={**ENVIRONMENT, "TWOFOLD_CACHE": str(lab.home / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert lab.outcome(tmp_path / "run") == lab.outcome(by_two)
