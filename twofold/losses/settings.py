"""Settings of the losses."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from twofold.data.settings import AbsolutePath, separated


class Group(BaseModel):
    """A group of settings. The docstring below a setting is its description in `--help`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class AdversarialSettings(Group):
    """The adversarial loss, its penalties and its augmentation."""

    loss: Literal["lsgan", "bce", "hinge", "wgan"] = "lsgan"
    """Adversarial loss: least squares, cross-entropy, hinge, or Wasserstein with gradient penalty."""
    gradient_penalty: float = Field(default=10.0, ge=0)
    """Weight of the gradient penalty; only used with wgan."""
    r1: float = Field(default=0.0, ge=0)
    """Weight of the R1 penalty on the discriminator's gradient at real images."""
    critic_steps: int = Field(default=1, ge=1)
    """Discriminator updates for each generator update (WGAN-GP's n_critic)."""
    augment: Annotated[
        tuple[Literal["colour", "translation", "cutout"], ...], BeforeValidator(separated)
    ] = ()
    """Augmentation of every image that a discriminator sees, for small data sets: colour,translation,cutout."""


class PerceptualSettings(Group):
    """A further loss: the distance of two images in the features of your own network."""

    network: AbsolutePath | None = None
    """TorchScript file of a network from images (N, 3, H, W) in [-1, 1] to one or more feature maps."""
    weight: float = Field(default=0.0, ge=0)
    """Weight of the mean L1 distance of the features."""
