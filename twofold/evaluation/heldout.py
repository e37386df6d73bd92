"""Metrics on held-out images while a run trains, which choose its best snapshot."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twofold.data.dataset import ImageStore
from twofold.data.loader import load_plain
from twofold.evaluation.features import features, own_network
from twofold.formats.images import to_float, to_uint8
from twofold.formats.values import Uint8
from twofold.metrics.distribution import kid
from twofold.metrics.image import psnr, ssim
from twofold.translation.noise import at_test_time


class Judge:
    """Translates held-out images of A and compares them with B; equal weights give equal values.

    Args:
        metric: "psnr" or "ssim" where image i of `b` is the answer to image i of `a`, else "kid".
        a, b: held-out images. most: how many of them are used.
        size: side in pixels of the middle square of each.
        network: the feature network's file, for "kid".
    """

    def __init__(
        self,
        metric: str,
        a: ImageStore,
        b: ImageStore,
        *,
        most: int,
        size: int,
        network: Path | None,
        device: torch.device,
    ) -> None:
        self.metric, self.device = metric, device
        self.sources = [load_plain(a, i, size) for i in range(min(most, len(a)))]
        self.answers = [to_array(load_plain(b, i, size)) for i in range(min(most, len(b)))]
        if metric == "kid":
            assert network is not None
            self.network = own_network(network, device)
            self.reference = self._features(self.answers)

    def figures(self, generator: nn.Module, noise: bool) -> dict[str, float]:
        """The metric, to six digits, and PSNR where answers are known, because it costs nothing."""
        outputs = [to_array(translate(generator, source.to(self.device), noise)) for source in self.sources]
        if self.metric == "kid":
            found = {"kid": kid(self._features(outputs), self.reference).value}
        else:
            found = {"psnr": mean(psnr, outputs, self.answers)}
            if self.metric == "ssim":
                found["ssim"] = mean(ssim, outputs, self.answers)
        return {name: float(f"{value:.6g}") for name, value in found.items()}

    def _features(self, pictures: Sequence[Uint8]) -> NDArray[np.float64]:
        return features(self.network, pictures, self.device).astype(np.float64)

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value of the metric beats the best so far; one that is not finite beats nothing."""
        if not np.isfinite(value):
            return False
        return than is None or (value < than if self.metric == "kid" else value > than)


@torch.inference_mode()
def translate(generator: nn.Module, source: Tensor, noise: bool) -> Tensor:
    """uint8 (C, H, W) to its translation."""
    with at_test_time(generator, noise):
        return to_uint8(generator(to_float(source[None])))[0]


def to_array(image: Tensor) -> Uint8:
    """(C, H, W) as an array (H, W, C)."""
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())


def mean(
    metric: Callable[[Uint8, Uint8], float], outputs: Sequence[Uint8], answers: Sequence[Uint8]
) -> float:
    return float(np.mean([metric(x, y) for x, y in zip(outputs, answers, strict=True)]))
