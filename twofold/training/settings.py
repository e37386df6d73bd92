"""What a user can set of the optimizers, the length of a run, its outputs and the machine it uses."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from twofold.losses.settings import separated

Precision = Literal["auto", "float32", "bf16"]
Compile = Annotated[
    Literal["auto", "on", "off"], BeforeValidator(lambda x: {True: "on", False: "off"}.get(x, x))
]
"""YAML reads a bare on and off as truth values."""
LogName = Literal["csv", "tensorboard", "wandb", "mlflow"]


class OptimSettings(BaseModel):
    """Adam, the same for every phase but for the critics' rate."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lr: float = Field(default=2e-4, gt=0, description="Learning rate during the constant epochs.")
    disc_lr: float = Field(
        default=1.0, gt=0, description="Learning rate of the critics, as a multiple of the others' (TTUR)."
    )
    beta1: float = Field(default=0.5, ge=0, lt=1, description="Adam's decay of the gradient's mean.")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Adam's decay of the gradient's square.")


class TrainingSettings(BaseModel):
    """How long to train, and what to keep on the way. Everything is counted in images (pairs of a and b)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: float = Field(
        default=100, ge=0, description="Epochs at constant learning rate; an epoch is max(|A|, |B|) images."
    )
    decay_epochs: float = Field(
        default=100, ge=0, description="Epochs in which the learning rate falls to zero."
    )
    batch: int = Field(default=1, ge=1, description="Images a step and process.")
    ema: float = Field(
        default=0,
        ge=0,
        description="Half-life, in images, of the averaged generators that are shipped; 0 ships the trained ones.",
    )
    samples: int = Field(default=4, ge=0, le=16, description="Fixed images a side in each sample grid.")
    report_every: int | None = Field(default=None, ge=1, description="Images between lines of metrics.jsonl.")
    sample_every: int | None = Field(default=None, ge=1, description="Images between sample grids.")
    snapshot_every: int | None = Field(default=None, ge=1, description="Images between models to ship.")
    state_every: int | None = Field(default=None, ge=1, description="Images between states to resume from.")
    log: Annotated[tuple[LogName, ...], BeforeValidator(separated)] = Field(
        default=(),
        description="Write the reports for other programs as well: csv, tensorboard, wandb, mlflow.",
    )


class MachineSettings(BaseModel):
    """What `auto` decides once, at the first start; kept in config.yaml ever after."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Precision = Field(
        default="auto", description="auto is bf16 where the machine computes it fast, else float32."
    )
    compile: Compile = Field(
        default="auto",
        description="Compile the networks: auto on CUDA, where it pays in a run of this length.",
    )
    capture: bool | None = Field(
        default=None,
        description="On CUDA, launch each step as one captured graph; if unset, where it can be and compile is not off.",
    )
    native: bool | None = Field(
        default=None,
        description="On a CPU, convolve (in float32) and norm by C code; if unset, where there is a compiler for it.",
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; as many as cores unless set.")
    channels_last: bool | None = Field(default=None, description="Memory layout of images and weights.")
    fused: bool | None = Field(default=None, description="One fused kernel for each optimizer step.")
    deterministic: bool = Field(default=False, description="On CUDA: bitwise repeatable, and slower.")
    checkpoint: bool = Field(
        default=False,
        description="Compute residual blocks twice rather than keep what is in them: less memory, same results.",
    )
