"""Metrics on held-out images while a run trains, which choose the best snapshot of each direction."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twofold.data.dataset import ImageStore
from twofold.data.loader import load_plain_batch
from twofold.evaluation.features import Network, features, inception_home, inception_network, own_network
from twofold.evaluation.settings import EvaluationSettings
from twofold.formats.contract import Pixels
from twofold.formats.display import View
from twofold.formats.values import from_network, to_network
from twofold.metrics.distribution import Estimate, fid, kid
from twofold.metrics.image import limits_of, psnr, ssim
from twofold.metrics.structure import structure_kept
from twofold.metrics.swd import SlicedWasserstein
from twofold.translation.noise import at_test_time

METRICS = {"psnr": psnr, "ssim": ssim}
"""Those that compare a translation with its answer; the others are distances between sets of images."""

Best = dict[str, Any]

NO_EVALUATION: Best = {"value": None, "images": 0, "since": 0, "kept": True}
"""The best evaluation before there is one: its value, its image count, the number of evaluations since, and whether its
translations keep the structure of their sources."""


class Measured(NamedTuple):
    """One evaluation: values of metrics to six digits, and the 95 % interval of those that have one."""

    values: dict[str, float]
    intervals: dict[str, list[float]] = {}  # noqa: RUF012 (never changed)


class Judge:
    """Translates held-out images and compares them with the other domain, as they would be stored.

    Equal weights have equal values.

    Args:
        settings: with the metric "psnr" or "ssim" image i of `b` is the answer to image i of `a`.
        a, b: held-out images of the source and of the target.
        size: side in pixels of the middle square of each.
        network: for "kid" and "fid".
        shown: channels of the target that `network` sees; by default as `shown_channels`.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        a: ImageStore,
        b: ImageStore,
        size: int,
        device: torch.device,
        network: Network | None = None,
        shown: Sequence[int] = (),
    ) -> None:
        self.metric, self.structure, self.device = settings.metric, settings.structure, device
        self.network, self.shown = network, shown
        self.source, self.target = a.contract, b.contract
        self.sources, answers = (
            load_plain_batch(store, range(min(settings.images, len(store))), size) for store in (a, b)
        )
        if self.metric == "swd":
            real = (to_network(each, self.target) for each in answers)
            self.reference = SlicedWasserstein(real, len(answers), size)
        elif network is not None:
            self.real = self._features(network, answers)
        else:
            self.answers = [*map(to_array, answers)]

    @torch.inference_mode()
    def measure(self, generator: nn.Module, noise: bool) -> Measured:
        """The metric, and what costs nothing beside it: PSNR where answers are known, else the structure kept."""
        sources, outputs = [to_network(image, self.source) for image in self.sources], []
        for source in sources:
            with at_test_time(generator, noise):
                values = generator(source[None].to(self.device)).cpu()
            outputs.append(from_network(values, self.target)[0])
        if self.metric in METRICS:
            found = self._against_answers(outputs)
        else:
            found = self._distance(outputs)
            seen = (to_array(to_network(output, self.target)) for output in outputs)
            pairs = zip(map(to_array, sources), seen, strict=True)
            found["structure"] = Estimate(float(np.mean([structure_kept(*pair)[1] for pair in pairs])))
        intervals = {
            name: [six_digits(each.low), six_digits(each.high)]
            for name, each in found.items()
            if each.low is not None and each.high is not None
        }
        return Measured({name: six_digits(each.value) for name, each in found.items()}, intervals)

    def _against_answers(self, outputs: Sequence[Tensor]) -> dict[str, Estimate]:
        pairs, limits = [*zip(map(to_array, outputs), self.answers, strict=True)], limits_of(self.target)
        names = dict.fromkeys(("psnr", self.metric))
        return {
            name: Estimate(float(np.mean([METRICS[name](*pair, limits) for pair in pairs]))) for name in names
        }

    def _distance(self, outputs: Sequence[Tensor]) -> dict[str, Estimate]:
        if self.metric == "swd":
            images = (to_network(each, self.target) for each in outputs)
            patches = [self.reference.patches(each, i, len(outputs)) for i, each in enumerate(images)]
            return {"swd": self.reference.distance(patches)}
        assert self.network is not None
        made = self._features(self.network, outputs)
        return {self.metric: (kid if self.metric == "kid" else fid)(made, self.real)}

    def _features(self, network: Network, images: Iterable[Tensor]) -> NDArray[np.float64]:
        pictures = (View(self.target, self.shown).show(to_array(image)) for image in images)
        return features(network, pictures, self.device).astype(np.float64)

    def better(self, values: dict[str, float], best: Best) -> bool:
        """Whether values beat the best so far; one that is not finite beats nothing.

        Among distances, one of translations that keep structure beats any of translations that do not.
        """
        value, kept = values[self.metric], self.keeps_structure(values)
        if best["value"] is None or not math.isfinite(value):
            return math.isfinite(value)
        if self.metric in METRICS:
            return value > best["value"]
        return kept if kept != best.get("kept", True) else value < best["value"]

    def keeps_structure(self, values: dict[str, float]) -> bool:
        """Whether translations keep the structure of their sources; true where it was not measured."""
        return values.get("structure", 1.0) >= self.structure


def judging_network(settings: EvaluationSettings, device: torch.device) -> Network | None:
    """The network of KID and FID: the user's, else Inception, whose weights are in the cache; None for other metrics."""
    if settings.features is not None:
        network = own_network(settings.features, device)
        return network if settings.metric in ("kid", "fid") else None
    if settings.metric not in ("kid", "fid"):
        return None
    return inception_network(inception_home(), clean=False, device=device)


def to_array(image: Tensor) -> Pixels:
    """(C, H, W) as an array (H, W, C)."""
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())


def six_digits(value: float) -> float:
    return float(f"{value:.6g}")
