"""The networks' settings."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from twofold.data.settings import separated
from twofold.losses.settings import Group

Norm = Literal["instance", "instance-affine", "batch", "none"]
Init = Literal["normal", "xavier", "kaiming", "orthogonal"]
Halvings = Annotated[int, Field(ge=1, le=8)]


class GeneratorSettings(Group):
    """The network that translates."""

    network: Literal[
        "auto", "resnet-9", "resnet-6", "unet", "unet-256", "unet-128", "encoder-decoder", "pytorch-gan"
    ] = "auto"
    """Architecture; auto is resnet-9 from 256 px and resnet-6 below."""
    width: int = Field(default=64, ge=1, le=4096)
    """Channels of the first layer; deeper ones are multiples."""
    norm: Norm = "instance"
    """Normalisation after the inner convolutions."""
    dropout: bool = False
    """Drop half of the values in the innermost layers."""
    upsample: Literal["transposed", "resize", "resize-zero", "blur"] = "transposed"
    """How the decoder doubles the sides: transposed convolutions; repeated pixels and a convolution, whose edges are
    mirrored (resize) or zero (resize-zero); or bilinear, as in CUT (blur)."""
    antialias: bool = False
    """Blur before each downsampling step of a ResNet, as CUT does."""
    blocks: int | None = Field(default=None, ge=1, le=64)
    """Residual blocks of a ResNet, instead of the 6 or 9 in its name."""
    halvings: int = Field(default=2, ge=1, le=5)
    """Downsampling steps before a ResNet's blocks, each of which halves the sides; the paper has 2."""
    skips: bool = False
    """Give a ResNet skips around its bottleneck, and learn only the change of the image."""
    init: Init = "normal"
    """Distribution of the initial weights."""


class DiscriminatorSettings(Group):
    """The network that tells real images from translated ones."""

    network: Literal["patch", "pixel", "image", "pytorch-gan"] = "patch"
    """What each output judges: a patch, a pixel, the whole image, or a patch as in PyTorch-GAN."""
    width: int = Field(default=64, ge=1, le=4096)
    """Channels of the first layer; deeper ones are multiples."""
    layers: Halvings = 3
    """Downsampling steps of the patch network; with 3 a patch has 70 by 70 pixels."""
    extra_layers: Annotated[tuple[Halvings, ...], BeforeValidator(separated)] = Field(
        default=(), max_length=4
    )
    """Downsampling steps of further patch discriminators, whose losses are averaged; with 1 a patch has 16 by 16 pixels."""
    norm: Norm = "instance"
    """Normalisation after the inner convolutions."""
    antialias: bool = False
    """Blur before each downsampling step, as CUT does."""
    spectral: bool = False
    """Spectral norm on every convolution."""
    scales: int = Field(default=1, ge=1, le=4)
    """Image scales with a discriminator each: full size, half of it, a quarter."""
    count: int = Field(default=1, ge=1, le=8)
    """Discriminators of each scale, whose losses are averaged."""
    init: Init = "normal"
    """Distribution of the initial weights."""
