"""The golden steps: what the original implementations computed, and how their weights map to ours."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from twofold.cpu import accelerate as acceleration
from twofold.methods.base import Batch
from twofold.training import trainer

GOLDENS = Path(__file__).parents[1] / "goldens"


class Golden:
    def __init__(self, name: str) -> None:
        with safe_open(GOLDENS / f"{name}.safetensors", "pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.losses: list[dict[str, float]] = json.loads(file.metadata()["losses"])
            self.options = json.loads(file.metadata()["options"])

    def weights(self, moment: str, network: str) -> dict[str, Tensor]:
        return self.under(f"{moment}/{network}/")

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): t for k, t in self.tensors.items() if k.startswith(prefix)}

    def batch(self, step: int) -> Batch:
        return Batch(*(self.tensors[f"step{step}/real_{d}"].double() / 127.5 - 1 for d in "AB"))


@pytest.fixture
def golden() -> Callable[[str], Golden]:
    return Golden


@pytest.fixture
def close() -> Callable[[Tensor, Tensor, str], None]:
    """Equal as ../goldens says: |x − y| ≤ 1e-7 + 1e-5·|y|."""

    def check(mine: Tensor, value: Tensor, what: str) -> None:
        torch.testing.assert_close(mine.detach(), value.double(), rtol=1e-5, atol=1e-7, msg=what)

    return check


@pytest.fixture(params=["accelerated", "plain"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether trainers accelerate networks: with Winograd's convolutions wherever they can be, or not at all."""
    monkeypatch.setattr(acceleration, "WINOGRAD_FROM", 1)
    if request.param == "plain":
        monkeypatch.setattr(trainer, "accelerate", lambda network, kernels: network)
