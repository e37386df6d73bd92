"""Several processes: the same training as one, and one set of outputs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from twofold import distributed
from twofold.errors import TwofoldError, UsageError
from twofold.runs import Run, read_lines
from twofold.training import machine
from twofold.training.stored_images import content, deal_out

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_two_ranks_with_one_image_each_equal_one_with_two(tmp_path):
    program = Path(__file__).with_name("two_ranks.py")
    ended = subprocess.run(
        [sys.executable, program, tmp_path], env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)
    assert figures.keys() == {"cyclegan", "pix2pix", "cut", "accumulated"}
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
    assert ended.output.count("stopped at 6 of 66 images") == 1, ended.output
    assert ended.output.count("torchrun --nproc-per-node=2 -m twofold train --resume") == 1
    assert Run(out).states()[-1][0] == 6


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


@pytest.mark.parametrize(("before", "now"), [(2, 1), (1, 2)])
def test_another_number_of_processes(lab, tmp_path, before, now):
    out, tokens = tmp_path / "run", lab.tokens(tmp_path / "run", training__state_every=4, cyclegan__replay=3)
    lab.run(tokens, ("after step", 5 if before == 1 else 3), ranks=before)
    assert Run(out).states()[-1][0] == 4
    ended = lab.run(tokens, ranks=now)
    assert ended.code == ([0, 0] if now == 2 else 0), ended.output
    line = f"resuming with {now} process{'es' * (now - 1)}, not {before}: stored images are dealt out again"
    assert ended.output.count(line) == 1
    assert (f"{now} processes × batch 1 = {now} images a step" in ended.output) == (now > 1)
    last = Run(out).state(12)
    assert json.loads((last / "progress.json").read_text())["ranks"] == now
    assert load_file(last / "state.safetensors")["memory/replay_a/count"].item() == 3
    assert [row["images"] for row in read_lines(Run(out).metrics)][-1] == 12


def test_the_survivor_of_a_killed_process_prints_one_line(lab, tmp_path):
    tokens = lab.tokens(tmp_path / "run", epochs=20, training__state_every=2)
    ended = lab.run(tokens, ("killed rank", 1), ranks=2)
    assert ended.code == [1, -9] and "Traceback" not in ended.output
    assert (
        ended.output.count("another process has ended or does not answer; see its message, then resume") == 1
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_launcher_passes_the_same_signal_on_twice(lab, tmp_path, name):
    """As on a cluster, where every process gets the signal, and again from torchrun."""
    tokens = lab.tokens(tmp_path / "run", epochs=20)
    ended = lab.run(tokens, (f"{name} twice", 3), ranks=2)
    assert ended.code == [130, 130] and Run(tmp_path / "run").states()[-1][0] == 6


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


@pytest.mark.slow
def test_torchrun_starts_a_killed_run_again(lab, tmp_path):
    """kill -9 of one of four processes; torchrun ends the others, starts four, and they resume from the newest state."""
    tokens = lab.tokens(tmp_path / "run", epochs=20, training__state_every=4)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", "--max-restarts=1")
    process = subprocess.Popen(
        [sys.executable, *launcher, "-m", "twofold", *tokens],
        env={**ENVIRONMENT, "TWOFOLD_CACHE": str(lab.home / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not Run(tmp_path / "run").states():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    workers = [
        int(line) for line in subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True).split()
    ]
    os.kill(workers[-1], signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert output.count("training: cyclegan") == 1 and output.count("resuming: cyclegan") == 1
    assert "4 processes × batch 1 = 4 images a step" in output
    undisturbed = tmp_path / "undisturbed"
    assert lab.run(lab.tokens(undisturbed, epochs=20, training__state_every=4), ranks=4).code == [0] * 4
    assert lab.outcome(tmp_path / "run") == lab.outcome(undisturbed)


# ---- one process alone


def images(*values):
    return torch.tensor(values).view(-1, 1, 1, 1).float()


def state(*values, rows):
    padded = torch.cat([images(*values), torch.zeros(rows - len(values), 1, 1, 1)])
    return {"count": torch.tensor([len(values)]), "rows": padded}


def values(dealt, capacity):
    return [int(image) for image in content(dealt, capacity)]


@pytest.mark.parametrize(
    ("before", "world", "after"),
    [
        ([(1, 2), (3, 4)], 1, [(1, 2, 3)]),  # more than the buffer holds
        ([(1, 2, 3)], 2, [(1, 3), (2,)]),
        ([(1,), (2,)], 3, [(1,), (2,), ()]),
        ([(), ()], 1, [()]),
    ],
)
def test_stored_images_are_dealt_out(before, world, after):
    states = [state(*part, rows=4) for part in before]
    for rank, expected in enumerate(after):
        dealt = deal_out(states, 3, rank, world)
        assert values(dealt, 3) == [*expected] and dealt["count"].item() == len(expected)
        assert ("rows" in dealt) == bool(expected)
        assert not expected or dealt["rows"].shape == (4, 1, 1, 1)


def test_only_what_is_stored_is_dealt_out():
    recent = {"count": torch.tensor([7]), "rows": images(5, 6, 4)}  # a ring that was filled twice
    assert values(deal_out([recent], 3, 0, 2), 3) == [5, 4]
    separate = {"count": torch.tensor([2]), "image_000000": images(1), "image_000001": images(2)}
    dealt = deal_out([separate, state(3, rows=4)], 3, 1, 2)
    assert values(dealt, 3) == [2] and "rows" not in dealt
    assert deal_out([{"count": torch.tensor([0])}], 3, 0, 2).keys() == {"count"}


@pytest.fixture
def two_processes(monkeypatch):
    """What a launcher tells the second of two processes."""
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


def test_the_groups_have_their_timeouts_and_the_gpu(two_processes, monkeypatch):
    calls = []
    for name in ("init_process_group", "new_group", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *a, name=name, **k: calls.append((name, a, k)))
    ready = iter([False, True, True])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: next(ready))
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda *_, **__: iter([("store", 1, 2)]))
    monkeypatch.setattr(torch.distributed, "PrefixStore", lambda attempt, store: (attempt, store))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "3")
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(("set_device", (device,), {})))
    device = torch.device("cuda", 1)
    with distributed.joined(device):
        pass
    minutes = {name: how.get("timeout") and how["timeout"].total_seconds() / 60 for name, _, how in calls}
    assert minutes["init_process_group"] == 10 and minutes["new_group"] == 180
    assert calls[0] == ("set_device", (device,), {})
    assert calls[1][1] == ("nccl",) and calls[1][2]["device_id"] == device
    assert calls[1][2]["store"] == ("3", "store") and calls[1][2]["world_size"] == 2
    assert calls[2][2]["backend"] == "gloo" and calls[3] == ("destroy_process_group", (None,), {})


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [
        ("auto", 1, "process 1 has no GPU: this machine has 1; start it with --nproc-per-node=1"),
        ("cuda", 1, "process 1 has no GPU"),
        ("cuda:1", 4, "--device cuda:1 names one GPU for several processes; use --device cuda"),
        ("cuda", 0, "cuda is not on this machine"),
    ],
)
def test_a_process_without_a_gpu_is_refused(two_processes, monkeypatch, device, gpus, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    with pytest.raises(UsageError, match=message):
        machine.device_of(None, {"machine": {"device": device}})


def test_processes_that_have_gpus_are_not_refused(two_processes, monkeypatch):
    assert machine.device_of(None, {"machine": {"device": "cpu"}}) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert machine.device_of(None, {}) == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("here", "everywhere", "command"),
    [
        ("1", "1", "twofold"),
        ("4", "4", "torchrun --nproc-per-node=4 -m twofold"),
        (
            *("2", "6"),
            "torchrun --nproc-per-node=2 --nnodes=3 --rdzv-backend=c10d --rdzv-endpoint=node1:29400 -m twofold",
        ),
    ],
)
def test_the_command_that_starts_as_many_processes(monkeypatch, here, everywhere, command):
    for name, value in {"LOCAL_WORLD_SIZE": here, "WORLD_SIZE": everywhere, "MASTER_ADDR": "node1"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.launcher() == command


def test_an_error_of_a_collective_is_one_line():
    with (
        pytest.raises(TwofoldError, match=r"resume the run \(Connection closed by peer\)$"),
        distributed.explained_loss(),
    ):
        raise torch.distributed.DistBackendError("Connection closed by peer\nstack")
    with pytest.raises(torch.OutOfMemoryError), distributed.explained_loss():
        raise torch.OutOfMemoryError("x")
