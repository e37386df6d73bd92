"""What a user can set of each method, and what each method's paper sets otherwise than the general defaults."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from twofold.losses.settings import separated

MethodName = Literal["cyclegan", "pix2pix", "cut", "fastcut"]

ROOMS: dict[MethodName, Literal["cyclegan", "pix2pix", "cut"]] = {
    "cyclegan": "cyclegan",
    "pix2pix": "pix2pix",
    "cut": "cut",
    "fastcut": "cut",
}
"""Where a method's own settings are: CUT and FastCUT are one method with other weights."""

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
"""The general defaults are CycleGAN's. A preset, a file, the environment and the command line go before these."""


class CycleGANSettings(BaseModel):
    """The weights and switches of the CycleGAN objective."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gan_ab: float = Field(
        default=1.0, ge=0, description="Weight of A→B fooling its critic; 0 trains no critic of B."
    )
    gan_ba: float = Field(
        default=1.0, ge=0, description="Weight of B→A fooling its critic; 0 trains no critic of A."
    )
    cycle_a: float = Field(default=10.0, ge=0, description="Weight of the forward cycle, A→B→A.")
    cycle_b: float = Field(default=10.0, ge=0, description="Weight of the backward cycle, B→A→B.")
    cycle: Literal["l1", "adversarial"] = Field(
        default="l1",
        description="How a cycle's end is compared with its start: L1, or by critics of its own.",
    )
    identity: float | None = Field(
        default=None,
        ge=0,
        description="Identity loss as a share of the cycle weights; 0.5 unless the channel counts differ.",
    )
    mask: float = Field(
        default=0.0,
        ge=0,
        description="Weight of leaving images as they are inside the masks of data.masks-a and -b.",
    )
    replay: int = Field(
        default=50, ge=0, description="Past translations that a critic also sees; 0 turns it off."
    )
    recent_updates: int = Field(
        default=0,
        ge=0,
        le=16,
        description="Further updates of the critics after each batch, from what they have seen of late.",
    )

    @model_validator(mode="after")
    def _anything(self) -> "CycleGANSettings":
        if not (self.gan_ab or self.gan_ba or self.cycle_a or self.cycle_b):
            raise ValueError("gan_ab, gan_ba, cycle_a and cycle_b are all 0, which leaves nothing to train")
        return self


class Pix2PixSettings(BaseModel):
    """The weights and switches of the pix2pix objective."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    conditional: bool = Field(default=True, description="The critic sees the input beside the output (cGAN).")
    gan: float = Field(default=1.0, ge=0, description="Weight of the adversarial term; 0 trains no critic.")
    distance: float = Field(default=100.0, ge=0, description="Weight of the distance to the right answer.")
    norm: Literal["l1", "l2"] = Field(
        default="l1", description="That distance: mean absolute or mean square."
    )

    @model_validator(mode="after")
    def _anything(self) -> "Pix2PixSettings":
        if not (self.gan or self.distance):
            raise ValueError("gan and distance are both 0, which leaves nothing to train")
        return self


class CUTSettings(BaseModel):
    """The weights and switches of the CUT and FastCUT objectives."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gan: float = Field(default=1.0, ge=0, description="Weight of the adversarial term; 0 trains no critic.")
    nce: float = Field(default=1.0, gt=0, description="Weight of the patch-wise contrast.")
    nce_identity: bool = Field(
        default=True, description="Contrast B with its own translation as well, which keeps colours."
    )
    layers: Annotated[tuple[int, ...], BeforeValidator(separated)] = Field(
        default=(0, 4, 8, 12, 16), min_length=1, description="Generator layers whose features are contrasted."
    )
    temperature: float = Field(default=0.07, gt=0, description="Temperature of the contrast.")
    patches: int = Field(default=256, ge=2, description="Places contrasted in each layer.")
    head_width: int = Field(default=256, ge=1, le=4096, description="Width of the networks on the features.")
    flip: bool = Field(default=False, description="FastCUT's flip equivariance.")
    mask: float = Field(
        default=0.0, ge=0, description="Weight of leaving A as it is inside the masks of data.masks-a."
    )
    replay: int = Field(
        default=0, ge=0, description="Past translations that the critic also sees; 0 turns it off."
    )
