"""Every setting of a run, read, written, and compared on resume.

Defaults < method < preset < file < environment < command line.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from twofold.data.settings import AbsolutePath, DataSettings
from twofold.errors import UsageError
from twofold.evaluation.settings import EvaluationSettings
from twofold.losses.settings import AdversarialSettings, PerceptualSettings
from twofold.methods import settings as methods
from twofold.methods.settings import DEFAULTS, ROOMS, MethodName
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
"""Nested; holds only what the user gave, so that a default differs from a value that the user set."""


class Settings(BaseModel):
    """All settings besides the two folders."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: MethodName = Field(default="cyclegan", description="The training method.")
    preset: str | None = Field(default=None, description="A published recipe; `twofold presets` lists them.")
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")
    data: DataSettings = DataSettings()
    generator: GeneratorSettings = GeneratorSettings()
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    adversarial: AdversarialSettings = AdversarialSettings()
    cyclegan: methods.CycleGANSettings = methods.CycleGANSettings()
    pix2pix: methods.Pix2PixSettings = methods.Pix2PixSettings()
    cut: methods.CUTSettings = methods.CUTSettings()
    perceptual: PerceptualSettings = PerceptualSettings()
    optim: OptimSettings = OptimSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    machine: MachineSettings = MachineSettings()


class Config(Settings):
    """The content of config.yaml: the folders and every setting of a run."""

    a: AbsolutePath = Field(description="Folder of domain A; of pairs, folder or list of both.")
    b: AbsolutePath | None = Field(default=None, description="Folder of domain B.")

    @model_validator(mode="after")
    def _agree(self) -> "Config":
        for message in self._contradictions():
            raise ValueError(message)
        return self

    def _contradictions(self) -> Iterator[str]:
        yield from (f"data: {message}" for message in self.data.contradictions())
        method, room = self.method, ROOMS[self.method]
        if self.b is None and not self.data.paired and not self.data.lab:
            yield (
                f"{method} takes two folders: `twofold train A B`, or a dataset root with trainA and trainB;"
                f" {self.a} alone is for --method pix2pix, if it holds pairs"
            )
        if method == "pix2pix" and not self.data.paired:
            yield "pix2pix needs pairs; leave out data.paired, or use --method cyclegan"
        if self.adversarial.loss == "wgan" and self.discriminator.norm == "batch":
            yield (
                "the gradient penalty of wgan is computed for each image alone, which batch norm does not allow:"
                " set discriminator.norm to instance or none"
            )
        if room == "cut" and self.generator.network.startswith(("unet", "encoder")):
            yield f"{method} contrasts a ResNet's layers: set generator.network to resnet-9 or resnet-6"
        masks = bool(self.data.masks_a or self.data.masks_b)
        if masks and (room == "pix2pix" or (self.data.masks_b and room == "cut")):
            yield f"{method} cannot use these masks; leave out {'data.masks_a and ' * (room == 'pix2pix')}data.masks_b"
        weight = {"cyclegan": self.cyclegan.mask, "cut": self.cut.mask}.get(room, 0)
        if (weight > 0) != masks:
            yield f"{room}.mask and masks go together: give data.masks_a and a weight, or neither"
        if self.cyclegan.recent_updates and not self.data.crops:
            yield f"cyclegan.recent_updates needs images of one size; leave out data.resize {self.data.resize}"
        if self.cyclegan.recent_updates and self.training.accumulate > 1 and room == "cyclegan":
            yield (
                "training.accumulate averages one update of the discriminators, and cyclegan.recent_updates makes"
                " several: set one of them to its default"
            )
        if self.training.freeze and self.training.start_from is None:
            yield "training.freeze keeps trained weights as they are: give --from, the weights to start from, as well"
        if room == "cut" and self.perceptual.network:
            yield f"{method} has no perceptual loss; leave out perceptual.network"
        if (self.perceptual.network is None) != (self.perceptual.weight == 0):
            yield "perceptual.network and perceptual.weight go together; give both or neither"


FREE = {
    *("training.epochs", "training.decay_epochs", "training.report_every", "training.sample_every"),
    *("training.snapshot_every", "training.state_every", "data.workers", "data.cache", "data.cache_dir"),
    *("data.cache_limit_gb", "data.show_a", "data.show_b", "training.log", "evaluation.patience"),
    *("machine.device", "machine.compile", "machine.capture", "machine.native", "machine.threads"),
    *("machine.channels_last", "machine.fused", "machine.checkpoint", "data.verify"),
}
"""Settings that may differ on resume: the length of the run, what it writes and shows, how images are read, and what
only affects speed or memory."""

FOLDERS = ("a", "b", "data.val_a", "data.val_b", "data.masks_a", "data.masks_b")
"""Settings that may name another folder on resume, if it holds the same images."""


def compose(*layers: Layer) -> Config:
    """Validate the layers over the method's defaults; later layers win.

    Raises:
        UsageError: a key or a value is wrong; one line, with the nearest valid one.
    """
    overrides = merge(*layers)
    try:
        method = Settings.model_validate({k: v for k, v in overrides.items() if k == "method"}).method
        return Config.model_validate(merge(DEFAULTS[method], overrides))
    except ValidationError as error:
        raise UsageError(explain(error)) from error


def reject_other_methods(method: MethodName, overrides: Layer) -> None:
    """UsageError for a setting of another method on the command line; files may hold the settings of all methods."""
    others = {*ROOMS.values()} - {ROOMS[method]}
    for path, _ in flatten(overrides):
        if (room := path.split(".")[0]) in others:
            raise UsageError(f"{method} has no setting {path}; leave it out, or use --method {room}")


def merge(*layers: Layer) -> dict[str, Any]:
    """Merge nested mappings; later layers win."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            earlier = merged.get(key)
            if isinstance(earlier, Mapping) and isinstance(value, Mapping):
                value = merge(earlier, value)
            merged[key] = value
    return merged


def flatten(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("optim.lr", 0.0002) and so on."""
    for key, value in layer.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def get(layer: Layer, path: str) -> Any:
    """The layer's value of "optim.lr"; None if it has none."""
    return dict(flatten(layer)).get(path)


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    layer: dict[str, Any] = {}
    for path, nested in flat.items():
        for room in reversed(path.split(".")):
            nested = {room: nested}
        layer = merge(layer, nested)
    return layer


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The layer of the TWOFOLD_SET_* variables; values are YAML, so `null` and `false` work.

    Raises:
        UsageError: a value is not YAML, or a setting or its value is wrong; names the variable.
    """
    layers: list[Layer] = []
    for name, text in environ.items():
        if name.startswith(ENVIRONMENT):
            try:
                value = yaml.load(text, Loader)
            except yaml.YAMLError as error:
                raise UsageError(f"{name} must be YAML, not {text}; put it in quotes") from error
            setting = name.removeprefix(ENVIRONMENT).lower().replace("__", ".")
            layers.append(checked({setting: value}, name))
    return merge(*layers)


def variable(setting: str) -> str:
    """The environment variable of a setting: optim.lr is TWOFOLD_SET_OPTIM__LR."""
    return ENVIRONMENT + setting.replace(".", "__").upper()


def from_file(path: Path) -> dict[str, Any]:
    """The layer of a YAML file, such as a run's config.yaml.

    Raises:
        UsageError: the file is missing, is not a YAML mapping, or was written by a newer twofold, or a setting or its
            value is wrong; names the file.
    """
    try:
        layer = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
            reason = f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
        raise UsageError(f"cannot read settings from {path}: {reason}") from error
    if not isinstance(layer, dict):
        raise UsageError(f"{path} holds no settings; write them as `optim: {{lr: 0.0001}}`")
    version = layer.pop("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise UsageError(f"{path} has format {version}; this version reads up to {FORMAT}: update twofold")
    return checked(layer, path)


def checked(layer: Layer, source: object) -> dict[str, Any]:
    """The layer of one source under present names; UsageError that begins with the source for a wrong key or value."""
    renamed = with_new_names(layer)
    try:
        Settings.model_validate({key: value for key, value in renamed.items() if key not in ("a", "b")})
    except ValidationError as error:
        raise UsageError(f"{source}: {explain(error)}") from error
    return renamed


def with_new_names(layer: Layer) -> dict[str, Any]:
    """The layer with the settings of older versions under their present names."""
    return nest({RENAMED_SETTINGS.get(path, path): value for path, value in flatten(layer)})


class Loader(yaml.SafeLoader):
    """Safe YAML that reads floats as YAML 1.2 does: `1e-4` is a number, not a string; refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # PyYAML refuses it
            if key.value in keys:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} twice", problem_mark=key.start_mark
                )
            keys.add(key.value)
        return super().construct_mapping(node, deep)


FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, [*"-+0123456789."])


def to_yaml(config: Config) -> str:
    """The text of config.yaml: the method, the preset and the folders first, then every room."""
    content = config.model_dump(mode="json")
    first = {key: content.pop(key) for key in ("method", "preset", "a", "b", "seed")}
    return yaml.safe_dump({"format": FORMAT} | first | content, sort_keys=False, allow_unicode=True)


def resume(stored: Config, overrides: Layer) -> Config:
    """The config that a run resumes with: the stored one, with those overrides that may differ on resume.

    Other folders are taken over; `data.reopen` finds out whether they hold the same images.

    Raises:
        UsageError: another override differs from what is stored.
    """
    always = stored.model_dump(
        include={
            **dict.fromkeys(("a", "b", "method"), True),
            **{"data": {"paired", "masks_a", "masks_b"}, "cyclegan": {"mask"}, "cut": {"mask"}},
        }
    )
    wanted = dict(flatten(compose(always, overrides).model_dump()))
    kept = dict(flatten(stored.model_dump()))
    changed: dict[str, Any] = {}
    for path, _ in flatten(overrides):
        value, left_open = wanted[path], wanted[path] in (None, "auto")
        if (path in FREE and not (left_open and path.startswith("machine."))) or (
            path in FOLDERS and value is not None and kept[path] is not None
        ):
            changed[path] = value
        elif path not in FREE and not left_open and value != kept[path]:
            raise UsageError(
                f"this run was started with {path} = {_as_typed(kept[path])}, not {_as_typed(value)}; leave it out"
                " to resume, or give another --out to start a new run"
            )
    return compose(stored.model_dump(), nest(changed))


def _as_typed(value: Any) -> str:
    """A setting as the command line takes it: "-1024.0 3071.0"."""
    words = value if isinstance(value, list | tuple) else ["none" if value is None else value]
    return " ".join(map(str, words))


def moved(stored: Layer, overrides: Layer) -> dict[str, tuple[Path, Path]]:
    """The folder in `stored` and in `overrides` of each of `FOLDERS` that is elsewhere now.

    A dataset root is where it was if the stored folder lies in it.
    """
    given = ((path, get(stored, path), get(overrides, path)) for path in FOLDERS)
    both = {path: (Path(old), Path(new)) for path, old, new in given if old is not None and new is not None}
    return {
        path: (old, new)
        for path, (old, new) in both.items()
        if not old.resolve().is_relative_to(new.expanduser().resolve())
    }


def default_out(overrides: Layer) -> Path:
    """The run folder where none is given: runs/A2B-METHOD."""
    names = [Path(overrides[name]).absolute().stem for name in "ab" if overrides.get(name) is not None]
    return Path("runs") / f"{'2'.join(names)}-{overrides.get('method', Settings().method)}"


KINDS = {
    **{"int": "a whole number", "float": "a number", "bool": "true or false", "finite": "a finite number"},
    **{"model": "a group of settings", "string": "text", "tuple": "a list"},
}
"""What a value must be, by the first word of pydantic's error type."""


def explain(error: ValidationError, name: Callable[[str], str] = str) -> str:
    """The first problem of a failed validation in one line; `name` gives the name to print for a setting."""
    problem = error.errors()[0]
    kind, value = problem["type"], problem["input"]
    path = ".".join(str(part) for part in problem["loc"] if not isinstance(part, int))
    if kind in ("extra_forbidden", "invalid_key"):
        return unknown_setting(path or str(problem["loc"][0]))
    if kind == "missing":
        return f"{path} is missing"
    label = name(path) if path in dict(flatten(schema())) else path
    if kind == "value_error":  # a check of several settings, or a sentence of the setting's own
        return f"{label}: {problem['msg'].removeprefix('Value error, ')}".removeprefix(": ")
    if kind == "literal_error":
        choices = problem.get("ctx", {}).get("expected", "").replace("'", "")
        near = difflib.get_close_matches(str(value).lower(), re.split(r", | or ", choices), 1, 0.5)
        return f"{label} must be {choices}, not {value}" + (f"; did you mean {near[0]}?" if near else "")
    expected = problem["msg"].removeprefix("Input should be ").replace("greater than or equal to", "at least")
    expected = KINDS.get(kind.split("_")[0], expected.replace("less than or equal to", "at most"))
    return f"{label} must be {expected}, not {value}"


def unknown_setting(path: str) -> str:
    known = [*(name for name, _ in flatten(schema())), *Settings.model_fields]
    same = [name for name in known if name.endswith("." + path.split(".")[-1])]
    near = same or difflib.get_close_matches(path, known, 1, 0.5)
    return f"there is no setting {path}" + (f"; did you mean {near[0]}?" if near else "")


def schema() -> dict[str, Any]:
    """Every setting and its default."""
    return {"a": None, "b": None, **Settings().model_dump()}
