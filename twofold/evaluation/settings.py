"""What a user can set of the evaluation during a training, and the names of measures."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from twofold.data.settings import AbsolutePath

MetricName = Literal[
    "psnr",
    "ssim",
    "ms-ssim",
    "lpips",
    "labels",
    "segmentation",
    "fid",
    "clean-fid",
    "kid",
    "structure",
    "cycle",
    "classifier",
]

HeldOutMetric = Literal["auto", "psnr", "ssim", "kid", "none"]


class EvaluationSettings(BaseModel):
    """How a run judges itself on held-out images while it trains, and which snapshot it keeps as the best."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    every: int | None = Field(
        default=None,
        ge=0,
        description="Images between evaluations; a few times a run if not given, 0 for never.",
    )
    metric: HeldOutMetric = Field(
        default="auto",
        description="What the best snapshot is best at; auto is PSNR where answers are known, else KID if there"
        " is a feature network, else none.",
    )
    features: AbsolutePath | None = Field(
        default=None,
        description="A TorchScript feature network for KID: images (N, 3, H, W) in [-1, 1] to (N, D).",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after so many evaluations without a better one; never if not given.",
    )
    images: int = Field(default=100, ge=1, description="Most held-out images that are looked at each time.")
