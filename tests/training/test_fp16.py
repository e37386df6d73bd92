"""fp16 with a gradient scaler: losses near float32's, steps left out, and its state."""

import pytest
import torch

from twofold.methods.base import Batch
from twofold.runs import Run
from twofold.training import state
from twofold.training.trainer import Trainer


def batch(seed):
    draws = torch.Generator().manual_seed(seed)
    return Batch(*(torch.rand(1, 3, 16, 16, generator=draws) * 2 - 1 for _ in "ab"))


def trained(tiny, steps=4, **how):
    trainer, reports = Trainer(tiny(), fused=True, channels_last=True, **how), []
    for step in range(steps):
        trainer.step(batch(step), 1e-4)
        reports.append(trainer.sums.report())
    return trainer, reports


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.method.state_dict().items()}


@pytest.mark.parametrize("how", [{}, {"clip": 1.0}, {"accumulate": 2}])
def test_losses_are_near_those_of_float32(tiny, how):
    (half, found), (_, expected) = (trained(tiny, precision=each, **how) for each in ("fp16", "float32"))
    for mine, right in zip(found, expected, strict=True):
        assert mine == pytest.approx(right, rel=0.02, abs=0.01)
    assert all(1 < scaler.get_scale() <= 65536 for scaler in half.scalers.values())
    assert all(param.dtype == torch.float32 for param in half.method.parameters())


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_with_infinite_gradients_is_left_out_and_the_scale_halved(tiny, fused):
    trainer = Trainer(tiny(), precision="fp16", fused=fused)
    trainer.step(batch(0), 1e-4)
    for phase, scale in (("G", 2.0**126), ("D", 2.0**7)):
        scaler = trainer.scalers[phase]
        scaler.load_state_dict(scaler.state_dict() | {"scale": scale})
    before = weights(trainer)
    trainer.step(batch(1), 1e-4)
    same = {name for name, tensor in weights(trainer).items() if torch.equal(tensor, before[name])}
    trained_names = {name for name, param in trainer.method.named_parameters() if param.requires_grad}
    assert {name for name in trained_names if name.startswith("gen")} <= same
    assert not {name for name in trained_names if name.startswith("disc")} <= same
    assert [trainer.scalers[phase].get_scale() for phase in "GD"] == [2.0**125, 2.0**7]
    assert trainer.sums.broken() is None


def test_its_state_is_saved(tiny, tmp_path):
    run = Run(tmp_path / "run")
    trainer, _ = trained(tiny, precision="fp16")
    scaler = trainer.scalers["D"]
    scaler.load_state_dict(scaler.state_dict() | {"scale": 128.0})
    state.save(run, trainer, {})
    resumed = Trainer(tiny(), precision="fp16", fused=True, channels_last=True)
    state.load(run, resumed, pytest.fail)
    for phase, each in trainer.scalers.items():
        assert resumed.scalers[phase].state_dict() == each.state_dict()
    for one in (trainer, resumed):
        one.step(batch(9), 1e-4)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(trainer).values(), weights(resumed).values(), strict=True)
    )


def test_a_run_is_resumed_to_the_bit(lab, tmp_path):
    half = {"machine__precision": "fp16", "machine__fused": True}
    killed, whole = (lab.tokens(tmp_path / name, **half) for name in ("killed", "whole"))
    lab.run(killed, ("after step", 8))
    assert lab.run(killed).code == lab.run(whole).code == 0
    assert lab.outcome(tmp_path / "killed") == lab.outcome(tmp_path / "whole")
