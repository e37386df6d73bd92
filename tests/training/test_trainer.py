"""One training step: order, averages, sums, layouts, randomness."""

import math
import os
import random
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.backends import cudnn

from twofold import train as train_from_python
from twofold.distributed import sync_gradients
from twofold.evaluation.doctor.examine import examine
from twofold.methods.base import Batch, Method, Update
from twofold.reporting.samples import grid
from twofold.runs import Run, read_lines
from twofold.training.loss_sums import LossSums
from twofold.training.session import own_torch_state
from twofold.training.trainer import EMA_RAMP, Trainer

CPU = torch.device("cpu")
OTHER = {torch.contiguous_format: torch.channels_last, torch.channels_last: torch.contiguous_format}


def batch(seed, count=1, size=16):
    draws = torch.Generator().manual_seed(seed)
    return Batch(*(torch.rand(count, 3, size, size, generator=draws) * 2 - 1 for _ in "ab"))


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.method.state_dict().items()}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Toy(Method):
    """Two numbers; the second phase's loss depends on both."""

    phases: ClassVar = {"first": ("one",), "second": ("two",)}
    translators: ClassVar = {}

    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.Linear(1, 1, bias=False) for _ in range(2))
        for layer in (self.one, self.two):
            nn.init.constant_(layer.weight, 1.0)
        self.seen = []

    def step(self, batch):
        self.seen.append(("begin", self.one.weight.item(), self.two.weight.item()))
        yield Update("first", {"x": self.one.weight.sum()})
        self.seen.append(("between", self.one.weight.item(), self.two.weight.item()))
        yield Update("second", {"y": (self.one.weight * self.two.weight).sum(), "z": self.two.weight.sum()})
        self.seen.append(("end", self.one.weight.item(), self.two.weight.item()))


def test_updates_are_made_in_order_and_only_in_their_phase():
    trainer = Trainer(Toy())
    trainer.step(batch(0), 0.1)  # Adam's first step is the learning rate itself
    expected = [("begin", 1.0, 1.0), ("between", 0.9, 1.0), ("end", 0.9, 0.9)]
    for (moment, *values), (named, *right) in zip(trainer.method.seen, expected, strict=True):
        assert moment == named
        assert values == pytest.approx(right, abs=1e-6)
    assert trainer.sums.report() == pytest.approx({"x": 1.0, "y": 0.9, "z": 1.0})
    assert trainer.images == 1


class Halves(Toy):
    """One phase whose losses come in two parts."""

    def step(self, batch):
        yield Update("first", {"x": 3 * self.one.weight.sum()}, complete=False)
        self.seen.append(self.one.weight.item())
        yield Update("first", {"y": -2 * self.one.weight.sum()})


def test_parts_of_an_update_add_up_to_one_step():
    trainer = Trainer(Halves())
    for _ in range(2):
        trainer.step(batch(0), 0.1)
    assert trainer.method.seen == pytest.approx([1.0, 0.9])  # not moved between the parts, once after them
    moments = trainer.optimizers["first"].state[trainer.method.one.weight]
    assert moments["step"].item() == 2
    assert moments["exp_avg"].item() == pytest.approx((1 - 0.5**2) * 1.0)  # of the gradient 3 - 2
    assert trainer.sums.report().keys() == {"x", "y"}


def test_the_learning_rate_is_the_steps():
    trainer = Trainer(Toy(), lr=5.0)
    trainer.step(batch(0), 0.0)
    assert trainer.method.one.weight.item() == 1.0


def test_discriminators_have_a_learning_rate_of_their_own(tiny):
    """Of Adam's first step, which is as long as its rate."""
    made = tiny()
    trainer = Trainer(made, lr=1e-3, disc_lr=3.0)
    before = weights(trainer)
    trainer.step(batch(0), 1e-3)
    after = weights(trainer)
    moved = {name: (after[name] - before[name]).abs().max().item() for name in before}
    for name, rate in (("gen_ab", 1e-3), ("gen_ba", 1e-3), ("disc_a", 3e-3), ("disc_b", 3e-3)):
        assert max(x for key, x in moved.items() if key.startswith(name)) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("count", [1, 2])
def test_average_against_a_loop(tiny, count):
    ema = 1.5
    trainer = Trainer(tiny(), ema=ema)
    averages = {name: p.detach().clone() for name, p in trainer.method.gen_ab.named_parameters()}
    for step in range(1, 21):
        trainer.step(batch(step, count), 1e-2)
        halflife = min(ema, step * count * EMA_RAMP)
        keep = 0.5 ** (count / halflife)
        for name, param in trainer.method.gen_ab.named_parameters():
            averages[name] = keep * averages[name] + (1 - keep) * param.detach()
    shipped = trainer.generator("ab")
    assert shipped is not trainer.method.gen_ab
    for name, param in shipped.named_parameters():
        torch.testing.assert_close(param, averages[name], rtol=1e-5, atol=1e-6)
        assert not param.requires_grad


def test_without_averaging_the_trained_generator_ships(tiny):
    trainer = Trainer(tiny())
    assert trainer.generator("ba") is trainer.method.gen_ba


def test_bf16_step(tiny):
    losses = {}
    for precision in ("float32", "bf16"):
        trainer = Trainer(tiny(), precision=precision)
        for step in range(3):
            trainer.step(batch(step), 1e-3)
        losses[precision] = trainer.sums.report()
        assert {p.dtype for p in trainer.method.parameters()} == {torch.float32}
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bf16"] != losses["float32"]


def test_first_bad_image_and_its_losses(tiny):
    trainer = Trainer(tiny())
    for step in range(5):
        a, b, *_ = batch(step)
        trainer.step(Batch(a * math.nan if step == 3 else a, b), 1e-3)
    images, names = trainer.sums.broken() or (0, [])
    assert images == 3
    assert {"gan_ab", "cycle_a", "idt_a", "disc_a", "disc_b"} & set(names)
    sums = LossSums(torch.device("cpu"))
    for image, value in enumerate([1.0, math.inf, math.nan]):
        sums.add({"good": torch.tensor(1.0), "bad": torch.tensor(value), "later": torch.tensor(value)}, image)
        if image == 0:
            sums.add({"later": torch.tensor(0.0)}, image)
    assert sums.broken() == (1, ["bad", "later"])
    sums.report()
    assert sums.broken() == (1, ["bad", "later"])


def test_a_run_stops_where_losses_stop_being_finite(lab, tmp_path, command):
    ended = command(*lab.tokens(tmp_path / "run", optim__lr=1e30, training__state_every=1))
    assert ended.code == 1
    message = ended.output.splitlines()[-1]
    assert "stopped being finite at image 1" in message
    assert "the last good state is at 1" in message
    assert re.match(r"twofold: (\w+, )*(gan|cycle|idt|disc)_\w+ stopped", message)
    run = Run(tmp_path / "run")
    assert [images for images, _ in run.states()] == [1]
    last = read_lines(run.metrics)[-1]
    assert last["images"] == 1 and last["not_finite"]
    assert [found.name for found in examine(run)] == ["not finite"]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_synchronised_gradients_have_their_parameters_strides(layout):
    """Autograd gives a first gradient in the strides that the backward pass made, not in its parameter's."""
    param = nn.Parameter(torch.zeros(4, 3, 3, 3).contiguous(memory_format=layout))
    without = nn.Parameter(torch.zeros(2))
    grad = torch.randn(4, 3, 3, 3)
    param.grad = grad.contiguous(memory_format=OTHER[layout])
    assert param.grad.stride() != param.stride()
    sync_gradients([param, without])
    assert param.grad.stride() == param.stride()
    assert torch.equal(param.grad, grad)
    assert without.grad is None


@pytest.mark.parametrize("fused", [False, True])
def test_moments_and_gradients_keep_channels_last(tiny, fused):
    plain, fast = Trainer(tiny()), Trainer(tiny(), channels_last=True, fused=fused)
    for step in range(3):
        plain.step(batch(step), 1e-3)
        fast.step(batch(step), 1e-3)
    for phase, optimizer in fast.optimizers.items():
        for param in fast.params[phase]:
            for name in ("exp_avg", "exp_avg_sq"):
                assert optimizer.state[param][name].stride() == param.stride()
    for name, tensor in plain.method.state_dict().items():
        torch.testing.assert_close(fast.method.state_dict()[name], tensor, rtol=1e-3, atol=2e-4, msg=name)


def test_same_seed_same_weights_whatever_the_global_generator(tiny):
    results = []
    for mess in range(2):
        trainer = Trainer(tiny(replay=1), seed=7)
        for step in range(6):
            torch.manual_seed(mess)
            trainer.step(batch(step), 1e-3)
        results.append(weights(trainer))
    assert equal(*results)
    other = Trainer(tiny(replay=1), seed=8)
    for step in range(6):
        other.step(batch(step), 1e-3)
    assert not equal(results[0], weights(other)), "the replay draws do not depend on the seed"


def test_samples_change_nothing(tiny):
    trainer = Trainer(tiny(), ema=5)
    trainer.step(batch(0), 1e-3)
    before, torch_state = weights(trainer), torch.get_rng_state()
    picture = grid(batch(1, 2).a, trainer.generator("ab"), trainer.method.gen_ba)
    assert picture.size == (3 * 16, 2 * 16)
    assert equal(before, weights(trainer))
    assert torch.equal(torch_state, torch.get_rng_state())
    assert trainer.method.gen_ba.training
    trainer.step(batch(1), 1e-3)


def test_torch_is_given_back_as_it_was():
    before = torch.get_rng_state()
    with pytest.raises(KeyError), own_torch_state(CPU, 3, deterministic=True, one_size=True):
        assert torch.get_num_threads() == 3
        assert torch.are_deterministic_algorithms_enabled()
        assert "CUBLAS_WORKSPACE_CONFIG" in os.environ and not cudnn.benchmark
        torch.rand(3)
        raise KeyError
    with own_torch_state(CPU, 1, deterministic=False, one_size=True):
        assert cudnn.benchmark
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ and not cudnn.benchmark
    assert torch.equal(torch.get_rng_state(), before)


def test_the_runs_gpu_is_the_current_one_meanwhile(monkeypatch):
    """`--device cuda:1`: where torch takes no device, it uses the current one."""
    current = []

    class Current:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            current.append(self.device)

        def __exit__(self, *_):
            current.append(None)

    monkeypatch.setattr(torch.cuda, "device", Current)
    second = torch.device("cuda", 1)
    with own_torch_state(second, 1, deterministic=False, one_size=True):
        assert current == [second]
    with own_torch_state(CPU, 1, deterministic=False, one_size=True):
        pass
    assert current == [second, None]


def test_train_leaves_the_callers_random_state(lab, tmp_path):
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    tiny = {
        "generator": {"width": 2},
        "discriminator": {"width": 2, "layers": 1},
        "machine": {"threads": 1, "precision": "float32"},
    }
    lines = []
    run = train_from_python(
        lab.a,
        lab.b,
        out=tmp_path / "run",
        size=16,
        epochs=1,
        decay_epochs=0,
        settings=tiny,
        notify=lines.append,
    )
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()
    assert run.newest_snapshot("ab").name == "000000003-ab.safetensors"
    assert any("3 + 2 images" in line for line in lines)


def test_looking_more_often_changes_no_weight(lab, finished, tmp_path, command):
    often = {f"training__{what}_every": 1 for what in ("report", "sample", "snapshot", "state")}
    assert command(*lab.tokens(tmp_path / "run", training__samples=2, **often)).code == 0
    for name in ("snapshots/000000006-ab.safetensors", "snapshots/000000012-ba.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()
    assert len(Run(tmp_path / "run").samples("ab")) == 12
