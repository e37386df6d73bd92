"""Settings of the evaluation during a run, and the names of metrics."""

from typing import Literal

from pydantic import Field

from twofold.data.settings import AbsolutePath
from twofold.losses.settings import Group

MetricName = Literal[
    "psnr",
    "ssim",
    "ms-ssim",
    "mae",
    "lpips",
    "labels",
    "fid",
    "clean-fid",
    "kid",
    "swd",
    "structure",
    "alignment",
    "cycle",
]

HeldOutMetric = Literal["auto", "psnr", "ssim", "swd", "kid", "fid", "none"]


class EvaluationSettings(Group):
    """How a run measures itself on held-out images, and which snapshot it keeps as the best."""

    every: int | None = Field(default=None, ge=0)
    """Images between evaluations; a few per run if not given, 0 for none."""
    metric: HeldOutMetric = Field(
        default="auto",
        description="Metric that chooses the best snapshots; auto is psnr where the held-out images have answers,"
        " else kid if there is a feature network, else swd (sliced Wasserstein distance), which needs no network.",
    )
    features: AbsolutePath | None = Field(
        default=None,
        description="TorchScript or ONNX feature network for kid and fid, images (N, 3, H, W) in [-1, 1] to (N, D);"
        " Inception if not given.",
    )
    structure: float = Field(
        default=0.3,
        ge=-1,
        le=1,
        description="Least correlation of the edges of source and translation with which a snapshot is preferred as the"
        " best by swd, kid or fid. On the seasons images: 0.69 with the true answers, 0.07 with those of other images.",
    )
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many evaluations without a better one; never if not given."""
    images: int = Field(default=100, ge=1)
    """Most held-out images per evaluation."""
