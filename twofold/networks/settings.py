"""The networks' settings."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from twofold.losses.settings import separated

Norm = Literal["instance", "instance-affine", "batch", "none"]
Init = Literal["normal", "xavier", "kaiming", "orthogonal"]
Width = Annotated[
    int, Field(ge=1, le=4096, description="Channels of the first layer; deeper ones are multiples.")
]
Halvings = Annotated[int, Field(ge=1, le=8)]


class GeneratorSettings(BaseModel):
    """The network that translates."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: Literal[
        "auto", "resnet-9", "resnet-6", "unet", "unet-256", "unet-128", "encoder-decoder", "pytorch-gan"
    ] = Field(default="auto", description="Architecture; auto is resnet-9 from 256 px and resnet-6 below.")
    width: Width = 64
    norm: Norm = Field(default="instance", description="Normalisation after the inner convolutions.")
    dropout: bool = Field(default=False, description="Drop half of the values in the innermost layers.")
    upsample: Literal["transposed", "resize", "resize-zero", "blur"] = Field(
        default="transposed",
        description="Doubling the size: transposed convolutions; repeat and convolve (no checkerboards), edges"
        " mirrored or zero; or bilinear and convolve, as CUT does.",
    )
    antialias: bool = Field(default=False, description="Blur before a ResNet's halvings, as CUT does.")
    blocks: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Residual blocks of a ResNet, instead of the 6 or 9 in its name.",
    )
    halvings: int = Field(
        default=2, ge=1, le=5, description="Halvings of the sides before a ResNet's blocks; the paper has 2."
    )
    skips: bool = Field(
        default=False,
        description="Give a ResNet skips around its bottleneck, and learn only the change of the image.",
    )
    init: Init = Field(default="normal", description="Distribution of the initial weights.")


class DiscriminatorSettings(BaseModel):
    """The network that tells real images from translated ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: Literal["patch", "pixel", "image", "pytorch-gan"] = Field(
        default="patch",
        description="What is judged as one: a patch, a pixel, the image, or a patch as in PyTorch-GAN.",
    )
    width: Width = 64
    layers: Halvings = Field(
        default=3, description="Halvings of the patch network; 3 judges patches of 70 by 70 pixels."
    )
    extra_layers: Annotated[tuple[Halvings, ...], BeforeValidator(separated)] = Field(
        default=(),
        max_length=4,
        description="Halvings of further patch discriminators, whose losses are averaged: 1 judges 16 by 16 pixels.",
    )
    norm: Norm = Field(default="instance", description="Normalisation after the inner convolutions.")
    antialias: bool = Field(default=False, description="Blur before the halvings, as CUT does.")
    spectral: bool = Field(default=False, description="Spectral norm on every convolution.")
    scales: int = Field(
        default=1,
        ge=1,
        le=4,
        description="Image scales with a discriminator each: full size, half of it, a quarter.",
    )
    count: int = Field(
        default=1, ge=1, le=8, description="Discriminators of each scale, whose losses are averaged."
    )
    init: Init = Field(default="normal", description="Distribution of the initial weights.")
