"""Settings of the optimizers, the length of a run, its outputs and the machine it uses."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from twofold.data.settings import AbsolutePath, separated
from twofold.losses.settings import Group

Precision = Literal["auto", "float32", "bf16", "fp16"]
Compile = Annotated[
    Literal["auto", "on", "off"], BeforeValidator(lambda x: {True: "on", False: "off"}.get(x, x))
]
"""YAML reads a bare on and off as booleans."""
ScheduleName = Literal["linear", "cosine", "step", "constant"]
LogName = Literal["csv", "tensorboard", "wandb", "mlflow"]


class OptimSettings(Group):
    """Adam, the same for every network except for the discriminators' learning rate."""

    lr: float = Field(default=2e-4, gt=0)
    """Learning rate during the constant epochs."""
    disc_lr: float = Field(default=1.0, gt=0)
    """Learning rate of the discriminators, as a multiple of the generators' (TTUR)."""
    beta1: float = Field(default=0.5, ge=0, lt=1)
    """Adam's decay of the gradient's mean."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Adam's decay of the gradient's square."""
    weight_decay: float = Field(default=0, ge=0)
    """Shrinks all weights by this share of the learning rate at each step, as AdamW does."""
    clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradients of all generators together, and of all discriminators; by default no limit."""


class TrainingSettings(Group):
    """Length and outputs of a run, counted in images (in pairs for paired data)."""

    epochs: float = Field(default=100, ge=0)
    """Epochs at constant learning rate; an epoch is max(|A|, |B|) images."""
    decay_epochs: float = Field(default=100, ge=0)
    """Epochs after those, in which the learning rate decays; linear and cosine reach zero."""
    schedule: ScheduleName = "linear"
    """How it decays: in a straight line, as a cosine, in steps, or not at all."""
    step_epochs: float = Field(default=50, gt=0)
    """Epochs between two steps of the step schedule; the first step begins the decay."""
    step_factor: float = Field(default=0.1, gt=0, lt=1)
    """Factor of the learning rate at each step of the step schedule."""
    warmup: int = Field(default=0, ge=0)
    """Images over which the learning rate rises from zero at the start."""
    batch: int = Field(default=1, ge=1)
    """Images in a batch, for each process."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are averaged for one optimizer step: a larger batch in the same memory."""
    start_from: AbsolutePath | None = None
    """Start from trained weights: a run, a model, a checkpoint (.pth) or a folder of checkpoints."""
    freeze: Annotated[tuple[str, ...], BeforeValidator(separated)] = ()
    """Weights that are not trained: `encoder`, or patterns of names such as gen_ab.down.*; needs --from."""
    ema: float = Field(default=0, ge=0)
    """Half-life, in images, of the averaged generators that snapshots hold; 0: no averaging."""
    samples: int = Field(default=4, ge=0, le=16)
    """Images of each domain in a sample grid."""
    report_every: int | None = Field(default=None, ge=1)
    """Images between lines of metrics.jsonl."""
    sample_every: int | None = Field(default=None, ge=1)
    """Images between sample grids."""
    snapshot_every: int | None = Field(default=None, ge=1)
    """Images between snapshots."""
    state_every: int | None = Field(default=None, ge=1)
    """Images between states to resume from."""
    log: Annotated[tuple[LogName, ...], BeforeValidator(separated)] = ()
    """Also write the reports for other programs: csv, tensorboard, wandb, mlflow."""


class MachineSettings(Group):
    """Use of the machine; `auto` and unset are chosen at the first start and written to config.yaml."""

    device: str = "auto"
    """auto (a CUDA GPU, else Apple's, else the CPU), cpu, cuda, cuda:1 or mps."""
    precision: Precision = "auto"
    """float32, bf16, or fp16 with a gradient scaler for older GPUs; auto is bf16 where the machine computes it fast."""
    compile: Compile = "auto"
    """Compile the networks; auto: on CUDA, in runs long enough to save time."""
    capture: bool | None = None
    """On CUDA, launch each step as one captured graph; by default where possible, unless compile is off."""
    native: bool | None = None
    """On a CPU, run convolutions and norms as C code; by default where gcc is installed."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads; by default one for each core. Other counts round differently."""
    channels_last: bool | None = None
    """Channels-last memory layout; by default on a CPU and with bf16."""
    fused: bool | None = None
    """One fused kernel for each optimizer step; by default on CPU and CUDA."""
    deterministic: bool = False
    """On CUDA, bitwise repeatable but slower."""
    checkpoint: bool | None = None
    """Compute residual blocks twice, with less memory and the same results; by default where memory is short."""
