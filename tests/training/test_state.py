"""Saving and loading states, in one process."""

import errno
import os

import pytest
import torch

from twofold.errors import TwofoldError
from twofold.files import explained_full_disk
from twofold.methods.base import Batch
from twofold.runs import Run
from twofold.training import state
from twofold.training.trainer import Trainer


def advance(trainer, steps):
    for _ in range(steps):
        draws = torch.Generator().manual_seed(trainer.images)
        trainer.step(Batch(*(torch.rand(1, 3, 16, 16, generator=draws) for _ in "ab")), 1e-3)


def everything(trainer):
    return {name: t.clone() for name, t in state.content(trainer).items()}


def names(run):
    return sorted(path.name for path in (run.path / "states").iterdir())


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


MACHINES = [
    {},
    {"channels_last": True, "fused": True},
    {"channels_last": True, "fused": True, "precision": "bf16"},
    {"channels_last": True},
]


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_round_trip_goes_on_to_the_bit(tiny, run, machine):
    straight = Trainer(tiny(), ema=3, **machine)
    advance(straight, 3)
    state.save(run, straight, {"note": "kept"})
    saved = everything(straight)
    advance(straight, 4)
    resumed = Trainer(tiny(), ema=3, **machine)
    progress = state.load(run, resumed, print)
    assert progress == {"format": 2, "images": 3, "ranks": 1, "note": "kept"}
    assert resumed.images == 3
    assert saved.keys() == everything(resumed).keys()
    assert all(torch.equal(t, saved[name]) for name, t in everything(resumed).items())
    advance(resumed, 4)
    final = everything(straight)
    assert all(torch.equal(t, final[name]) for name, t in everything(resumed).items())
    for phase, optimizer in resumed.optimizers.items():
        for param in resumed.params[phase]:
            assert optimizer.state[param]["exp_avg"].stride() == param.stride()


def test_a_state_holds_everything(tiny, run):
    trainer = Trainer(tiny(), ema=3)
    advance(trainer, 3)
    held = everything(trainer)
    networks = 2 * len(trainer.method.gen_ab.state_dict()) + 2 * len(trainer.method.disc_a.state_dict())
    trained = sum(len(params) for params in trainer.params.values())
    assert sum(name.startswith("method/") for name in held) == networks
    assert sum(name.startswith("adam/") for name in held) == 3 * trained
    assert sum(name.startswith("average/") for name in held) == 2 * len(trainer.method.gen_ab.state_dict())
    assert {name for name in held if name.startswith("memory/")} == {
        f"memory/replay_{domain}/{name}" for domain in "ab" for name in ("rows", "count")
    }
    assert sum(name.startswith("sums/") for name in held) == 8


def test_a_discriminator_that_is_never_trained(tiny, run):
    trainer, again = (Trainer(tiny(gan_ab=0, gan_ba=0)) for _ in range(2))
    advance(trainer, 2)
    state.save(run, trainer, {})
    state.load(run, again, print)
    advance(trainer, 1)
    advance(again, 1)
    assert all(torch.equal(t, everything(again)[name]) for name, t in everything(trainer).items())


def test_nothing_saved_yet(tiny, run):
    assert state.load(run, Trainer(tiny()), print) is None


def test_the_latest_two_are_kept_and_leftovers_swept(tiny, run):
    trainer = Trainer(tiny())
    (run.path / "states" / "writing-000000009").mkdir(parents=True)
    (run.path / "states" / "writing-000000009" / "state.safetensors").write_bytes(b"half")
    assert state.load(run, trainer, print) is None
    for _ in range(4):
        advance(trainer, 1)
        state.save(run, trainer, {})
    assert names(run) == ["000000003", "000000004"]


def test_saving_twice_at_one_count_writes_once(tiny, run):
    trainer = Trainer(tiny())
    advance(trainer, 1)
    state.save(run, trainer, {})
    before = (run.state(1) / "state.safetensors").stat().st_ino
    state.save(run, trainer, {})
    assert (run.state(1) / "state.safetensors").stat().st_ino == before
    assert names(run) == ["000000001"]


@pytest.mark.parametrize("damage", ["torn tensors", "no tensors", "torn progress", "other progress"])
def test_a_damaged_state_is_put_away_and_its_name_used_again(tiny, run, damage):
    trainer = Trainer(tiny())
    for _ in range(2):
        advance(trainer, 2)
        state.save(run, trainer, {})
    right = everything(trainer)
    tensors, progress = (run.state(4) / name for name in ("state.safetensors", "progress.json"))
    match damage:
        case "torn tensors":
            os.truncate(tensors, 1000)
        case "no tensors":
            tensors.unlink()
        case "torn progress":
            os.truncate(progress, 5)
        case "other progress":
            progress.write_text("[]")
    lines = []
    resumed = Trainer(tiny())
    state.load(run, resumed, lines.append)
    assert resumed.images == 2
    assert len(lines) == 1 and "cannot read the state at 4 images" in lines[0]
    advance(resumed, 2)
    state.save(run, resumed, {})
    assert names(run) == ["000000002", "000000004", "damaged-000000004"]
    reloaded = Trainer(tiny())
    state.load(run, reloaded, lines.append)
    assert len(lines) == 1
    assert reloaded.images == 4
    assert all(torch.equal(t, right[name]) for name, t in everything(reloaded).items())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_leaves_what_was_there(tiny, run, monkeypatch, code):
    trainer = Trainer(tiny())
    advance(trainer, 1)
    state.save(run, trainer, {})
    advance(trainer, 1)

    def full(path, content, durable):
        path.write_bytes(content.encode()[:3])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(state, "write_atomically", full)
    message = r"no space left under .*run: free some"
    with pytest.raises(TwofoldError, match=message), explained_full_disk(run.path):
        state.save(run, trainer, {})
    assert names(run) == ["000000001"]


def test_a_state_can_run_no_code(tiny, run):
    """Nothing but safetensors and JSON is read, so a pickle in their place is only damage."""
    trainer = Trainer(tiny())
    advance(trainer, 1)
    state.save(run, trainer, {})
    torch.save({"method/x": torch.zeros(1)}, run.state(1) / "state.safetensors")
    with pytest.raises(TwofoldError, match="cannot read any state of"):
        state.load(run, Trainer(tiny()), print)
