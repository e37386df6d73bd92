"""The estimate of a step's memory against what a step took, and what is said where it does not fit."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from twofold import hardware
from twofold.errors import UsageError
from twofold.methods.base import Batch
from twofold.training import memory
from twofold.training.memory import Need, check

GIB = 2**30
CPU = torch.device("cpu")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_estimate_against_a_real_step():
    program = Path(__file__).with_name("peak_memory.py")
    ended = subprocess.run(
        [sys.executable, program, "float32"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    estimated, measured = json.loads(ended.stdout)
    assert measured > 50e6
    assert 0.5 < estimated / measured < 2


def ghost(tiny, size, count=1, **changes):
    method = tiny(**changes).to("meta")
    batch = Batch(*(torch.empty(count, 3, size, size, device="meta") for _ in "ab"))
    return memory.estimate(method, batch, precision="float32")


def test_activations_grow_with_pixels_and_batch(tiny):
    one = ghost(tiny, 64)
    assert ghost(tiny, 128).images == pytest.approx(4 * one.images, rel=0.03)
    assert ghost(tiny, 64, 3).images == pytest.approx(3 * one.images, rel=0.03)
    assert ghost(tiny, 128).fixed == one.fixed == 16 * sum(p.numel() for p in tiny().parameters())
    assert ghost(tiny, 64, cycle_a=0, cycle_b=0).images < one.images


def test_estimating_draws_nothing(tiny):
    state = torch.get_rng_state()
    ghost(tiny, 32, replay=50)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("need", "size", "batch", "way"),
    [
        (Need(1 * GIB, 9 * GIB), 256, 1, r"--size (\d+) would fit"),
        (Need(3 * GIB, 7 * GIB), 512, 1, r"--size (\d+) would fit"),
        (Need(1 * GIB, 16 * GIB), 256, 8, r"--batch (\d+) would fit"),
        (Need(1 * GIB, 16 * GIB), 1024, 2, r"--size (\d+) --batch 1 would fit"),
    ],
)
def test_refusal_names_what_fits(monkeypatch, need, size, batch, way):
    free = 4 * GIB
    monkeypatch.setattr(hardware, "free_memory", lambda device: free)
    with pytest.raises(UsageError, match=f"a step with --batch {batch} --size {size} needs about") as caught:
        check(need, CPU, size, batch, 4)
    found = re.search(way, str(caught.value))
    assert found, str(caught.value)
    number, images = int(found[1]), need.images
    if "--size" in way:
        images *= (number / size) ** 2 / batch
        assert number % 32 == 0
    else:
        images *= number / batch
    assert need.fixed + images <= free
    assert need.fixed + images > free / 2, "much more would fit"


def test_refusal_where_no_size_fits(monkeypatch):
    monkeypatch.setattr(hardware, "free_memory", lambda device: GIB)
    with pytest.raises(UsageError, match=r"no size would fit: lower --generator\.width"):
        check(Need(2 * GIB, GIB), CPU, 256, 1, 4)
    with pytest.raises(UsageError, match="no size would fit"):
        check(Need(GIB // 2, 4 * GIB), CPU, 256, 1, 256)


def test_what_fits_or_cannot_be_told_is_let_through(monkeypatch):
    for free in (10 * GIB, None):
        monkeypatch.setattr(hardware, "free_memory", lambda device, free=free: free)
        check(Need(GIB, GIB), CPU, 256, 1, 4)


def test_a_refused_run_leaves_nothing(lab, tmp_path, command, monkeypatch):
    monkeypatch.setattr(hardware, "free_memory", lambda device: 1000)
    ended = command(*lab.tokens(tmp_path / "run"))
    assert ended.code == 2
    assert "needs about" in ended.output
    assert not (tmp_path / "run").exists()
