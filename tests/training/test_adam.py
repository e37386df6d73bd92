"""Adam on a CPU: the formula, whatever the weights' layout, and nothing copied."""

import pytest
import torch
from torch.profiler import profile

from twofold.training.adam import Adam, as_it_lies

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def parameter(layout):
    draws = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 2, 5, generator=draws, dtype=torch.float64).contiguous(memory_format=layout)
    return torch.nn.Parameter(weight)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_against_the_formula(layout, fused):
    weight, other = parameter(layout), torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = Adam([weight, other], lr=0.01, betas=(0.5, 0.999), fused=fused)
    mine, first, second = weight.detach().clone(), torch.zeros(4, 3, 2, 5), torch.zeros(4, 3, 2, 5)
    draws = torch.Generator().manual_seed(1)
    for step in range(1, 4):
        gradient = torch.randn(4, 3, 2, 5, generator=draws, dtype=torch.float64)
        weight.grad = torch.empty_like(weight).copy_(gradient)
        other.grad = torch.ones_like(other)
        optimizer.step()
        first, second = 0.5 * first + 0.5 * gradient, 0.999 * second + 0.001 * gradient**2
        mine -= 0.01 * (first / (1 - 0.5**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        torch.testing.assert_close(weight.detach(), mine)
    state = optimizer.state[weight]
    torch.testing.assert_close(state["exp_avg"], first)
    assert state["exp_avg"].shape == weight.shape and state["exp_avg"].stride() == weight.stride()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_weight_is_copied(layout):
    weight = parameter(layout)
    optimizer = Adam([weight], fused=True)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    with profile(acc_events=True) as seen:
        optimizer.step()
    assert "aten::clone" not in {event.key for event in seen.key_averages()}


def test_only_channels_last_tensors_are_shown_otherwise():
    whole = torch.arange(24.0).view(1, 2, 3, 4)
    last = whole.contiguous(memory_format=torch.channels_last)
    assert as_it_lies(last).shape == (1, 3, 4, 2) and as_it_lies(last).data_ptr() == last.data_ptr()
    for other in (whole, whole[0], whole[:, :, ::2], torch.zeros(())):
        assert as_it_lies(other) is other


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weight_decay_against_adamw(layout, fused):
    mine, theirs = parameter(layout), parameter(torch.contiguous_format)
    settings = {"lr": 0.01, "betas": (0.5, 0.999), "weight_decay": 0.3}
    ours = Adam([mine], fused=fused, decoupled_weight_decay=True, **settings)
    torchs = torch.optim.AdamW([theirs], foreach=False, **settings)
    for step in range(5):
        gradient = torch.randn(4, 3, 2, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        mine.grad, theirs.grad = torch.empty_like(mine).copy_(gradient), gradient
        ours.step()
        torchs.step()
    torch.testing.assert_close(mine.detach(), theirs.detach(), rtol=1e-12, atol=1e-12)
