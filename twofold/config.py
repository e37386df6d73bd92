"""Every setting of a run: composed from layers, written, read, compared.

Defaults < method < preset < file < environment < command line. A layer is a nested mapping of what somebody said; what
nobody said is not in it, so a later look can tell a wish from a default.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from twofold.data.settings import AbsolutePath, DataSettings
from twofold.errors import UsageError
from twofold.evaluation.settings import EvaluationSettings
from twofold.losses.settings import AdversarialSettings, PerceptualSettings
from twofold.methods.settings import (
    DEFAULTS,
    ROOMS,
    CUTSettings,
    CycleGANSettings,
    MethodName,
    Pix2PixSettings,
)
from twofold.networks.settings import DiscriminatorSettings, GeneratorSettings
from twofold.runs import FORMAT
from twofold.training.settings import MachineSettings, OptimSettings, TrainingSettings

ENVIRONMENT = "TWOFOLD_SET_"
"""TWOFOLD_SET_OPTIM__LR=1e-4 sets optim.lr."""

RENAMED_SETTINGS = {
    "optim.critic_lr": "optim.disc_lr",
    "cyclegan.rehearsals": "cyclegan.recent_updates",
    "discriminator.also": "discriminator.extra_layers",
}
"""Old name to new name of every setting that was renamed, for files and runs of older versions."""

Layer = Mapping[str, Any]


class Settings(BaseModel):
    """What can be set besides the two folders."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: MethodName = Field(default="cyclegan", description="The training method.")
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")
    data: DataSettings = DataSettings()
    generator: GeneratorSettings = GeneratorSettings()
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    adversarial: AdversarialSettings = AdversarialSettings()
    cyclegan: CycleGANSettings = CycleGANSettings()
    pix2pix: Pix2PixSettings = Pix2PixSettings()
    cut: CUTSettings = CUTSettings()
    perceptual: PerceptualSettings = PerceptualSettings()
    optim: OptimSettings = OptimSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    machine: MachineSettings = MachineSettings()


class Config(Settings):
    """All that a run was started with: config.yaml."""

    a: AbsolutePath = Field(description="Folder of domain A; of pairs, folder or list of both.")
    b: AbsolutePath | None = Field(default=None, description="Folder of domain B.")
    preset: str | None = Field(default=None, description="The preset that the settings started from.")

    @model_validator(mode="after")
    def _agree(self) -> "Config":
        try:
            self.data.agree()
        except ValueError as error:
            raise ValueError(f"data: {error}") from error
        if self.b is None and not self.data.paired and not self.data.lab:
            raise ValueError(
                f"{self.method} takes two folders: `twofold train A B`; one alone is for pairs (--method pix2pix)"
            )
        if self.method == "pix2pix" and not self.data.paired:
            raise ValueError("pix2pix needs pairs; leave out data.paired, or take --method cyclegan")
        if self.adversarial.loss == "wgan" and self.discriminator.norm == "batch":
            raise ValueError(
                "the gradient penalty of wgan is for each image alone, which batch norm is not:"
                " set discriminator.norm to instance or none"
            )
        unet = self.generator.network.startswith(("unet", "encoder"))
        if ROOMS[self.method] == "cut" and unet:
            raise ValueError(
                f"{self.method} contrasts a ResNet's layers: set generator.network to resnet-9 or resnet-6"
            )
        self.check_masks()
        if self.cyclegan.recent_updates and self.data.resize == "none":
            raise ValueError("cyclegan.recent_updates are for images of one size; leave out data.resize none")
        if ROOMS[self.method] == "cut" and self.perceptual.network:
            raise ValueError(
                f"{self.method} has nothing to compare in features; leave out perceptual.network"
            )
        if (self.perceptual.network is None) != (self.perceptual.weight == 0):
            raise ValueError("perceptual.network and perceptual.weight go together; give both or neither")
        return self

    def check_masks(self) -> None:
        weights = {"cyclegan": self.cyclegan.mask, "cut": self.cut.mask, "fastcut": self.cut.mask}
        if self.method not in weights or (self.data.masks_b and self.method != "cyclegan"):
            if self.data.masks_a or self.data.masks_b:
                raise ValueError(
                    f"{self.method} does not translate what these masks would keep; leave them out"
                )
            return
        if (weights[self.method] > 0) != bool(self.data.masks_a or self.data.masks_b):
            room = "cyclegan" if self.method == "cyclegan" else "cut"
            raise ValueError(f"{room}.mask and masks go together: give data.masks_a and a weight, or neither")


FREE = {
    *("training.epochs", "training.decay_epochs", "training.report_every", "training.sample_every"),
    *("training.snapshot_every", "training.state_every", "data.workers", "data.cache", "data.cache_dir"),
    *("data.cache_limit_gb", "training.log", "evaluation.patience"),
    *("machine.device", "machine.compile", "machine.capture", "machine.native", "machine.threads"),
    *("machine.channels_last", "machine.fused", "machine.checkpoint"),
}
"""What a resumed run may change: how long it goes on, what it writes, how images are fetched, and what only affects speed or memory."""


def compose(*layers: Layer) -> Config:
    """The config that these layers give, later ones first in rank.

    Raises:
        UsageError: a key or a value is wrong; one line, with the nearest right one.
    """
    said = merge(*layers)
    try:
        method = Settings.model_validate(
            {key: value for key, value in said.items() if key == "method"}
        ).method
        return Config.model_validate(merge(DEFAULTS[method], said))
    except ValidationError as error:
        raise UsageError(explain(error)) from error


def refuse_others(method: MethodName, said: Layer) -> None:
    """UsageError where a setting of a method that was not chosen was said; a file may hold those of all."""
    others = {*ROOMS.values()} - {ROOMS[method]}
    for path, _ in flatten(said):
        if (room := path.split(".")[0]) in others:
            raise UsageError(f"{method} has no setting {path}; leave it out, or take --method {room}")


def merge(*layers: Layer) -> dict[str, Any]:
    """One nested mapping out of several; a later layer's values replace an earlier one's."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            mine = merged.get(key)
            merged[key] = (
                merge(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
            )
    return merged


def flatten(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("optim.lr", 0.0002) and so on."""
    for key, value in layer.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def get(layer: Layer, path: str) -> Any:
    """What a layer says of "optim.lr", or None."""
    return dict(flatten(layer)).get(path)


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    layer: dict[str, Any] = {}
    for path, value in flat.items():
        nested = value
        for room in reversed(path.split(".")):
            nested = {room: nested}
        layer = merge(layer, nested)
    return layer


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The layer that TWOFOLD_SET_* variables give; values are read as YAML, so `null` and `false` work.

    Raises:
        UsageError: a value is no YAML.
    """
    flat: dict[str, Any] = {}
    for name, text in environ.items():
        if name.startswith(ENVIRONMENT):
            try:
                value = yaml.load(text, Loader)
            except yaml.YAMLError as error:
                raise UsageError(f"{name} cannot be {text!r}: quote it as YAML asks for") from error
            flat[name.removeprefix(ENVIRONMENT).lower().replace("__", ".")] = value
    return nest(flat)


def from_file(path: Path) -> dict[str, Any]:
    """The layer that a YAML file gives; a run's config.yaml is one.

    Raises:
        UsageError: the file is missing, is no YAML mapping, or was written by a newer twofold.
    """
    try:
        layer = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"cannot read settings from {path}: {reason}") from error
    if not isinstance(layer, dict):
        raise UsageError(f"{path} holds no settings; it should read like `optim: {{lr: 0.0001}}`")
    version = layer.pop("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise UsageError(f"{path} has format {version}, this twofold reads up to {FORMAT}: update twofold")
    return with_new_names(layer)


def with_new_names(layer: Layer) -> dict[str, Any]:
    """The layer with settings of older versions under today's names."""
    return nest({RENAMED_SETTINGS.get(path, path): value for path, value in flatten(layer)})


class Loader(yaml.SafeLoader):
    """YAML 1.2's floats: `1e-4` is a number, as everyone who writes it means."""


Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
for _first in "-+0123456789.":
    Loader.yaml_implicit_resolvers.setdefault(_first, []).append(
        ("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"))
    )


def to_yaml(config: Config) -> str:
    """config.yaml's text: the folders and the preset first, then every room."""
    content = config.model_dump(mode="json")
    first = {key: content.pop(key) for key in ("method", "preset", "a", "b", "seed")}
    return yaml.safe_dump({"format": FORMAT} | first | content, sort_keys=False, allow_unicode=True)


def resume(stored: Config, said: Layer) -> Config:
    """The config a run goes on with: what is stored, and of what was said now, what a resumed run may change.

    Raises:
        UsageError: something else was said that differs from what is stored.
    """
    always = {"a": stored.a, "b": stored.b, "method": stored.method, "data": {"paired": stored.data.paired}}
    wanted = dict(flatten(compose(always, said).model_dump()))
    kept = dict(flatten(stored.model_dump()))
    for path, _ in flatten(said):
        undecided = wanted[path] in (None, "auto")
        if path not in FREE and not undecided and wanted[path] != kept[path]:
            raise UsageError(
                f"this run was started with {path} = {kept[path]}, not {wanted[path]}; leave it out to go on,"
                " or give another --out to start anew"
            )
    changed = {path: wanted[path] for path, _ in flatten(said) if path in FREE}
    left_open = [path for path in changed if path.startswith("machine.") and changed[path] in (None, "auto")]
    changed = {path: value for path, value in changed.items() if path not in left_open}
    return compose(stored.model_dump(), nest(changed))


def default_out(said: Layer) -> Path:
    """The run folder of a training that was given none: runs/A2B-METHOD."""
    names = [Path(said[name]).absolute().stem for name in "ab" if said.get(name) is not None]
    return Path("runs") / f"{'2'.join(names)}-{said.get('method', Settings().method)}"


def explain(error: ValidationError) -> str:
    """The first problem of a failed validation as one line."""
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = [name for name, _ in flatten(schema())]
        near = [name for name in known if name.endswith("." + path.split(".")[-1])]
        near = near or difflib.get_close_matches(path, known, 1, 0.5)
        return f"there is no setting {path}" + (f"; did you mean {near[0]}?" if near else "")
    if problem["type"] == "literal_error":
        choices = problem.get("ctx", {}).get("expected", "")
        near = difflib.get_close_matches(str(problem["input"]), re.findall(r"'([^']*)'", choices), 1, 0.5)
        return f"{path} cannot be {problem['input']!r}: " + (
            f"did you mean {near[0]}?" if near else f"it is one of {choices}"
        )
    if problem["type"] == "missing":
        return f"{path} is missing"
    if problem["type"] == "value_error":  # a check of several settings together, whose input is all of them
        return f"{path}: {problem['msg'].removeprefix('Value error, ')}".removeprefix(": ")
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{path} cannot be {problem['input']!r}: {message}"


def schema() -> dict[str, Any]:
    """Every setting and its default."""
    rooms = {
        name: field.get_default(call_default_factory=True) for name, field in Config.model_fields.items()
    }
    return {name: room.model_dump() if isinstance(room, BaseModel) else room for name, room in rooms.items()}
