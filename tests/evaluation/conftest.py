"""Small networks in files, as users bring them."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to five numbers: means of a convolution's maps."""

    def __init__(self, out: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, out, 3, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)).mean((2, 3))


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., Path]:
    """`scripted(module, "name")` writes a module as TorchScript."""

    def write(module: nn.Module, name: str = "small") -> Path:
        path = tmp_path / "networks" / f"{name}.pt"
        path.parent.mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch would rather have torch.export's files
            torch.jit.script(module.eval()).save(path)
        return path

    return write


@pytest.fixture
def small() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Small().requires_grad_(False)
