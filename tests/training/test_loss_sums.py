"""Sums of losses on the device, against lists."""

import numpy as np
import pytest
import torch

from twofold.training.loss_sums import LossSums


def test_loss_sums_against_a_list():
    sums, given = LossSums(torch.device("cpu")), []
    for step, value in enumerate(np.random.default_rng(0).random(7)):
        losses = {"a": torch.tensor(value, dtype=torch.float32)}
        if step % 2:
            losses["b"] = torch.tensor(2 * value, dtype=torch.float32)
        sums.add(losses, step)
        given.append({name: float(loss) for name, loss in losses.items()})
    means = {name: np.mean([row[name] for row in given if name in row]) for name in "ab"}
    assert sums.report() == pytest.approx(means, rel=1e-12)
    sums.add({"a": torch.tensor(3.0)}, 7)
    assert sums.report()["a"] == 3.0
    assert sums.broken() is None


def test_loss_sums_keep_their_order_through_a_file():
    sums, again = LossSums(torch.device("cpu")), LossSums(torch.device("cpu"))
    sums.add({"gan": torch.tensor(1.0), "cycle": torch.tensor(2.0)}, 0)
    again.restore(dict(sorted(sums.state().items(), reverse=True)))
    assert list(again.report().items()) == [("gan", 1.0), ("cycle", 2.0)]
