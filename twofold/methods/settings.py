"""Settings of each method, and the defaults that each method's paper changes."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from twofold.data.settings import separated
from twofold.losses.settings import Group

MethodName = Literal["cyclegan", "pix2pix", "cut", "fastcut"]

ROOMS: dict[MethodName, str] = {
    "cyclegan": "cyclegan",
    "pix2pix": "pix2pix",
    "cut": "cut",
    "fastcut": "cut",
}
"""The settings group of each method: CUT and FastCUT are one method with different weights."""

CUT_NETWORKS: dict[str, Any] = {
    "generator": {"antialias": True, "upsample": "blur", "init": "xavier"},
    "discriminator": {"antialias": True, "init": "xavier"},
}

DEFAULTS: dict[MethodName, dict[str, Any]] = {
    "cyclegan": {},
    "pix2pix": {  # arXiv 1611.07004, §3 and appendix 6
        "data": {"paired": True},
        "generator": {"network": "unet", "norm": "batch", "dropout": True},
        "discriminator": {"norm": "batch"},
        "adversarial": {"loss": "bce"},
    },
    "cut": CUT_NETWORKS
    | {"training": {"epochs": 200, "decay_epochs": 200}},  # arXiv 2007.15651, appendix C.1
    "fastcut": CUT_NETWORKS
    | {
        "cut": {"nce": 10, "nce_identity": False, "flip": True},
        "training": {"epochs": 150, "decay_epochs": 50},
    },
}
"""The general defaults are CycleGAN's. A preset, a file, the environment and the command line override these."""


class CycleGANSettings(Group):
    """Weights and options of the CycleGAN objective."""

    gan_ab: float = Field(default=1.0, ge=0)
    """Weight of the adversarial loss of A→B; 0 trains no discriminator of B."""
    gan_ba: float = Field(default=1.0, ge=0)
    """Weight of the adversarial loss of B→A; 0 trains no discriminator of A."""
    cycle_a: float = Field(default=10.0, ge=0)
    """Weight of the forward cycle, A→B→A."""
    cycle_b: float = Field(default=10.0, ge=0)
    """Weight of the backward cycle, B→A→B."""
    cycle: Literal["l1", "adversarial"] = "l1"
    """Cycle loss: L1, or adversarial with two further discriminators."""
    identity: float | None = Field(default=None, ge=0)
    """Weight of the identity loss as a share of the cycle weights; 0.5 by default, 0 where A and B differ in channels."""
    mask: float = Field(default=0.0, ge=0)
    """Weight of the loss that keeps images unchanged inside the masks of --data.masks-a and -b."""
    replay: int = Field(default=50, ge=0)
    """Past translations that each discriminator also sees; 0 turns it off."""
    recent_updates: int = Field(default=0, ge=0, le=16)
    """Extra discriminator updates on recent images after each batch (an addition of twofold; no paper)."""

    @model_validator(mode="after")
    def _has_a_loss(self) -> "CycleGANSettings":
        if not (self.gan_ab or self.gan_ba or self.cycle_a or self.cycle_b):
            raise ValueError("gan_ab, gan_ba, cycle_a and cycle_b are all 0; set at least one above 0")
        return self


class Pix2PixSettings(Group):
    """Weights and options of the pix2pix objective."""

    conditional: bool = True
    """The discriminator sees the input beside the output (cGAN)."""
    gan: float = Field(default=1.0, ge=0)
    """Weight of the adversarial loss; 0 trains no discriminator."""
    distance: float = Field(default=100.0, ge=0)
    """Weight of the distance to the ground truth."""
    norm: Literal["l1", "l2"] = "l1"
    """That distance: mean absolute (l1) or mean squared (l2) difference."""

    @model_validator(mode="after")
    def _has_a_loss(self) -> "Pix2PixSettings":
        if not (self.gan or self.distance):
            raise ValueError("gan and distance are both 0; set at least one above 0")
        return self


class CUTSettings(Group):
    """Weights and options of the CUT and FastCUT objectives."""

    gan: float = Field(default=1.0, ge=0)
    """Weight of the adversarial loss; 0 trains no discriminator."""
    nce: float = Field(default=1.0, gt=0)
    """Weight of the patch loss (PatchNCE)."""
    nce_identity: bool = True
    """Apply the patch loss to B and its own translation too, which keeps colours."""
    layers: Annotated[tuple[int, ...], BeforeValidator(separated)] = Field(
        default=(0, 4, 8, 12, 16), min_length=1
    )
    """Generator layers whose features the patch loss compares."""
    temperature: float = Field(default=0.07, gt=0)
    """Temperature of the patch loss."""
    patches: int = Field(default=256, ge=2)
    """Patches compared in each layer."""
    head_width: int = Field(default=256, ge=1, le=4096)
    """Width of the networks on the features."""
    flip: bool = False
    """FastCUT's flip equivariance."""
    mask: float = Field(default=0.0, ge=0)
    """Weight of the loss that keeps A unchanged inside the masks of --data.masks-a."""
    replay: int = Field(default=0, ge=0)
    """Past translations that the discriminator also sees; 0 turns it off."""
