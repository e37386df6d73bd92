"""What a user can set of each method."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MethodName = Literal["cyclegan"]


class CycleGANSettings(BaseModel):
    """The weights and switches of the CycleGAN objective."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    adversarial: Literal["lsgan", "bce"] = Field(
        default="lsgan", description="Adversarial loss: least squares, or cross-entropy."
    )
    gan_ab: float = Field(
        default=1.0, ge=0, description="Weight of A→B fooling its critic; 0 trains no critic of B."
    )
    gan_ba: float = Field(
        default=1.0, ge=0, description="Weight of B→A fooling its critic; 0 trains no critic of A."
    )
    cycle_a: float = Field(default=10.0, ge=0, description="Weight of the forward cycle, A→B→A (L1).")
    cycle_b: float = Field(default=10.0, ge=0, description="Weight of the backward cycle, B→A→B (L1).")
    identity: float | None = Field(
        default=None,
        ge=0,
        description="Identity loss as a share of the cycle weights; 0.5 unless the channel counts differ.",
    )
    replay: int = Field(
        default=50, ge=0, description="Past translations that a critic also sees; 0 turns it off."
    )

    @model_validator(mode="after")
    def _anything(self) -> "CycleGANSettings":
        if not (self.gan_ab or self.gan_ba or self.cycle_a or self.cycle_b):
            raise ValueError("gan_ab, gan_ba, cycle_a and cycle_b are all 0, which leaves nothing to train")
        return self
