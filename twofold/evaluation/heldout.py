"""Metrics on held-out images while a run trains, which choose its best snapshot."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twofold.data.dataset import ImageStore
from twofold.data.loader import load_plain
from twofold.evaluation.features import features, own_network
from twofold.evaluation.settings import EvaluationSettings
from twofold.formats.contract import Pixels
from twofold.formats.display import View
from twofold.formats.values import from_network, to_network
from twofold.metrics.distribution import kid
from twofold.metrics.image import limits_of, psnr, ssim
from twofold.translation.noise import at_test_time

METRICS = {"psnr": psnr, "ssim": ssim}
"""Those that compare a translation with its answer."""


class Judge:
    """Translates held-out images of A and compares them with B, as they would be stored; equal weights, equal values.

    Args:
        settings: with the metric "psnr" or "ssim" image i of `b` is the answer to image i of `a`; else it is "kid".
        a, b: held-out images.
        size: side in pixels of the middle square of each.
        shown: channels of B that a feature network for KID sees; by default as `shown_channels`.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        a: ImageStore,
        b: ImageStore,
        size: int,
        device: torch.device,
        shown: Sequence[int] = (),
    ) -> None:
        self.metric, self.device, self.shown = settings.metric, device, shown
        self.source, self.target = a.contract, b.contract
        self.sources = [load_plain(a, i, size) for i in range(min(settings.images, len(a)))]
        self.answers = [to_array(load_plain(b, i, size)) for i in range(min(settings.images, len(b)))]
        if self.metric == "kid":
            assert settings.features is not None
            self.network = own_network(settings.features, device)
            self.reference = self._features(self.answers)

    @torch.inference_mode()
    def figures(self, generator: nn.Module, noise: bool) -> dict[str, float]:
        """The metric, to six digits, and PSNR where answers are known, because it costs nothing."""
        outputs = []
        for source in self.sources:
            with at_test_time(generator, noise):
                values = generator(to_network(source[None], self.source).to(self.device)).cpu()
            outputs.append(to_array(from_network(values, self.target)[0]))
        if self.metric == "kid":
            found = {"kid": kid(self._features(outputs), self.reference).value}
        else:
            pairs, limits = [*zip(outputs, self.answers, strict=True)], limits_of(self.target)
            names = dict.fromkeys(("psnr", self.metric))
            found = {name: np.mean([METRICS[name](*pair, limits) for pair in pairs]) for name in names}
        return {name: float(f"{value:.6g}") for name, value in found.items()}

    def _features(self, images: Sequence[Pixels]) -> NDArray[np.float64]:
        pictures = map(View(self.target, self.shown).show, images)
        return features(self.network, pictures, self.device).astype(np.float64)

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value of the metric beats the best so far; one that is not finite beats nothing."""
        nearer = than is None or (value < than if self.metric == "kid" else value > than)
        return nearer and math.isfinite(value)


def to_array(image: Tensor) -> Pixels:
    """(C, H, W) as an array (H, W, C)."""
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
