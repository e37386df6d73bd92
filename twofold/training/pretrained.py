"""Start from trained weights: a run, a model, or another project's checkpoints."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from twofold import config as configs
from twofold.config import Config, Layer
from twofold.errors import TwofoldError, UsageError
from twofold.exchange.checkpoint import Choices, digest, generators_in
from twofold.exchange.folder import find_generators
from twofold.exchange.load import open_generator
from twofold.exchange.mapping import candidates
from twofold.exchange.original import discriminator_from_original
from twofold.exchange.untrusted import read_tree
from twofold.methods.base import Method
from twofold.methods.settings import ROOMS
from twofold.networks.discriminators import PixelDiscriminator
from twofold.networks.layers import Generator
from twofold.networks.registry import describe
from twofold.networks.settings import DiscriminatorSettings
from twofold.networks.unet import UnetGenerator
from twofold.runs import DIRECTIONS, Notify, Run
from twofold.translation.header import is_model

Origins = dict[str, dict[str, str]]
"""The name and the hash of each generator's file, by direction."""

State = dict[str, Tensor]


class Source(NamedTuple):
    """Trained networks.

    Attributes:
        generators: by direction.
        settings: of these networks, nested as in a config.
        words: what was read, for a message.
        others: state dicts of discriminators, and of CUT's heads, by name.
    """

    generators: dict[str, Generator]
    settings: dict[str, dict[str, Any]]
    origins: Origins
    words: list[str]
    others: Mapping[str, State] = {}

    def also(self, others: dict[str, State], discriminator: dict[str, Any], words: list[str]) -> "Source":
        """With discriminators of these settings."""
        if not others:
            return self
        settings = self.settings | {"discriminator": discriminator}
        return self._replace(others=others, settings=settings, words=self.words + words)


# ---- read


def open_source(path: Path) -> Source:
    """Read the networks of a run, a model, a checkpoint or a folder of checkpoints. No code in a file is run.

    Raises:
        UsageError: there is no generator, or a file cannot be read.
    """
    if not path.exists():
        raise UsageError(
            f"--from {path}: there is no such file or folder; give a run, a .safetensors model, a checkpoint or a folder"
            " of checkpoints"
        )
    try:
        source = read(path)
    except (TwofoldError, OSError, SafetensorError) as error:
        start = "" if str(error).startswith(str(path)) else f"{path}: "
        raise UsageError(f"--from {start}{error}") from error
    if len({str(network_of(each)) for each in source.generators.values()}) > 1:
        raise UsageError(f"--from {path}: its two generators are different networks; give one of their files")
    return source


def read(path: Path) -> Source:
    run = Run(path)
    if run.recognised:
        ways = [way for way in DIRECTIONS if run.snapshots(way)] or ["ab"]
        return with_newest_state(run, of_files({way: run.newest_snapshot(way) for way in ways}))
    if path.is_dir():
        files = find_generators(path).files
        return with_discriminators(of_files(files), files)
    keys = {} if is_model(path) else generators_in(path)
    if len(keys) < 2:
        generator, header, _ = open_generator(path)
        return of_generators({header.direction: generator}, {header.direction: path})
    if len({*keys.values()} - {None}) < len(keys):
        raise UsageError(
            f"it holds {len(keys)} generators: {', '.join(list(keys)[:6])}; make a model of one: `twofold import"
            f" {shlex.quote(str(path))} --key NAME -o model.safetensors`"
        )
    found = {str(way): open_generator(path, way, choices=Choices(key)).generator for key, way in keys.items()}
    return of_generators(found, dict.fromkeys(found, path))


def of_files(files: dict[str, Path]) -> Source:
    """The generators in these files, each a model or a checkpoint, by direction."""
    found = {way: open_generator(file, way).generator for way, file in files.items()}
    return of_generators(found, files)


def of_generators(generators: dict[str, Generator], files: dict[str, Path]) -> Source:
    """A source of generators alone."""
    origins = {way: {"file": file.name, "blake2b": digest(file)} for way, file in files.items()}
    words = [f"gen_{way} from {file.name}" for way, file in files.items()]
    way, first = next(iter(generators.items()))
    settings = generator_settings(first)
    if isinstance(first, UnetGenerator) and not settings["dropout"] and not is_model(files[way]):
        del settings["dropout"]  # the keys of another project's U-Net do not tell
    return Source(generators, {"generator": settings}, origins, words)


def with_newest_state(run: Run, source: Source) -> Source:
    """With the networks that a run's newest state has besides the generators."""
    states = run.states()
    if not states:
        return source
    others: dict[str, State] = {}
    with safe_open(states[-1][1] / "state.safetensors", "pt") as file:
        for key in file.keys():  # noqa: SIM118, it is no mapping
            network, _, name = key.removeprefix("method/").partition(".")
            if key.startswith("method/") and not network.startswith("gen_"):
                others.setdefault(network, {})[name] = file.get_tensor(key)
    stored = configs.compose(configs.from_file(run.config)).discriminator
    words = [f"{', '.join(others)} from the state at {states[-1][0]} images"]
    return source.also(others, stored.model_dump(exclude={"init"}), words)


def with_discriminators(source: Source, files: Mapping[str, Path]) -> Source:
    """With the discriminators that stand beside generators in a checkpoint folder: net_D_A beside net_G_A.

    Of a generator from A to B, in our words, the discriminator judges images of B.
    """
    settings, words = DiscriminatorSettings().model_dump(exclude={"init"}), []
    others: dict[str, State] = {}
    for way, file in files.items():
        beside = file.with_name(file.name.replace("net_G", "net_D"))
        if beside == file or not beside.is_file():
            continue
        network = discriminator_from_original(next(iter(candidates(read_tree(beside)).values()), {}))
        others[f"disc_{way[1]}"] = network.state_dict()
        settings |= {name: value for name, value in network.arguments.items() if name in settings}
        settings["network"] = "pixel" if isinstance(network, PixelDiscriminator) else "patch"
        words.append(f"disc_{way[1]} from {beside.name}")
    return source.also(others, settings, words)


# ---- take over its networks


def with_networks(overrides: Layer, source: Source, given: Config) -> dict[str, Any]:
    """The user's settings over those of the source's networks; what the user leaves open is the source's.

    Args:
        given: the same settings with the defaults.

    Raises:
        UsageError: no generator has a direction that the method trains, or the user wants another kind of network.
    """
    trained = DIRECTIONS if ROOMS[given.method] == "cyclegan" else ("ab",)
    if not set(trained) & source.generators.keys():
        raise UsageError(
            f"--from {given.training.start_from} translates {', '.join(source.generators)}, and {given.method} trains"
            f" {', '.join(trained)}; give the folders in the other order, or another model"
        )
    decided = {path: value for path, value in configs.flatten(overrides) if value not in ("auto", None)}
    theirs = source.settings["generator"]["network"]
    wanted = str(decided.get("generator.network", theirs))
    if is_resnet(wanted) != is_resnet(theirs):
        raise UsageError(
            f"--from {given.training.start_from} has generator.network = {theirs}, not {wanted}; leave this setting out"
            " to take over its networks"
        )
    return configs.merge(source.settings, configs.nest(decided))


def is_resnet(network: str) -> bool:
    return not network.startswith(("unet", "encoder"))


def generator_settings(generator: Generator) -> dict[str, Any]:
    """The settings that build a network like this one."""
    made = dict(describe(generator))
    shared = {name: made[name] for name in ("width", "norm", "dropout", "upsample")}
    if made["network"] == "resnet":
        blocks = made["blocks"]
        name = {"network": "resnet-9" if blocks == 9 else "resnet-6"}
        own = {} if blocks in (6, 9) else {"blocks": blocks}
        return name | shared | own | {part: made[part] for part in ("antialias", "halvings", "skips")}
    by_depth = {8: "unet-256", 7: "unet-128"}
    return shared | {
        "network": by_depth.get(int(made["depth"]), "unet") if made["skips"] else "encoder-decoder"
    }


def check(source: Source, config: Config, method: Method) -> None:
    """Refuse networks that the source's weights do not fit.

    Raises:
        UsageError: the networks differ; the message names each difference.
    """
    path = config.training.start_from
    direction = next(way for way in source.generators if way in method.translators)
    ours, theirs = (
        network_of(each) for each in (generator_of(method, direction), source.generators[direction])
    )
    different = [
        f"generator.{name} = {theirs[name]}, not {ours[name]}"
        for name in theirs
        if name != "dropout" and theirs[name] != ours[name]
    ]
    mine = config.discriminator.model_dump()
    of_discriminators = [
        f"discriminator.{name} = {value}, not {mine[name]}"
        for name, value in source.settings.get("discriminator", {}).items()
        if value != mine[name]
    ]
    if not different and not of_discriminators:
        return
    advice = "leave these settings out to take over its networks"
    if theirs.get("depth") != ours.get("depth"):
        advice = f"its U-Net takes --size {2 ** theirs['depth']}"
    elif of_discriminators and not different:
        advice += ", or give one of its models (.safetensors, .pth) to start with new discriminators"
    raise UsageError(f"--from {path} has {', '.join([*different, *of_discriminators])}; {advice}")


def network_of(generator: Generator) -> dict[str, Any]:
    """The generator's description without the channels of its images."""
    return {name: each for name, each in describe(generator).items() if not name.endswith("_channels")}


def generator_of(method: Method, direction: str) -> Generator:
    network = method.get_submodule(method.translators[direction])
    assert isinstance(network, Generator)
    return network


# ---- load


def load(source: Source, method: Method, notify: Notify) -> Origins:
    """Give `method`, whose networks are fresh, the source's weights, and print what was loaded, is new, or is not used."""
    used = {way: generator for way, generator in source.generators.items() if way in method.translators}
    states = {method.translators[way]: each.state_dict() for way, each in used.items()}
    fitted, lines = {}, [f"starting from trained weights: {'; '.join(source.words)}"]
    for name, state in states.items():
        fitted[name], adapted = fit_channels(method.get_submodule(name), state)
        lines += [f"{name}: {line}" for line in adapted]
    for name, state in source.others.items():
        network = method.networks().get(name)
        if network is not None and shapes(network.state_dict()) == shapes(state):
            fitted[name] = state
    for name, state in fitted.items():
        method.get_submodule(name).load_state_dict(state)
    if new := [name for name in method.networks() if name not in fitted]:
        lines.append(f"new weights: {', '.join(new)}")
    unused = [f"gen_{way}" for way in source.generators if way not in used]
    if unused := unused + [name for name in source.others if name not in fitted]:
        lines.append(f"not used: {', '.join(unused)}")
    for line in lines:
        notify(line)
    return {way: source.origins[way] for way in used}


def shapes(state: Mapping[str, Tensor]) -> dict[str, Sequence[int]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def fit_channels(network: nn.Module, state: State) -> tuple[State, list[str]]:
    """The weights with the network's numbers of input and output channels, and a line for each change.

    Each new input channel gets the mean of the old ones, scaled so that equal channels give the same sum as before; each
    new output channel gets the mean of the old ones.
    """
    fitted, lines = dict(state), []
    for name, wanted in network.state_dict().items():
        tensor, layer = state[name], network.get_submodule(name.rpartition(".")[0])
        to, of = (1, 0) if isinstance(layer, nn.ConvTranspose2d) else (0, 1)
        for dim in (of, to) if tensor.dim() > 1 else range(tensor.dim()):
            old, new = tensor.shape[dim], wanted.shape[dim]
            if old == new:
                continue
            inputs = tensor.dim() > 1 and dim == of
            mean = tensor.mean(dim, keepdim=True) * (old / new if inputs else 1)
            tensor = mean.expand(*[new if i == dim else -1 for i in range(tensor.dim())])
            if tensor.dim() > 1:
                lines.append(
                    f"{old} {'input' if inputs else 'output'} channels are averaged and become {new}"
                )
        fitted[name] = tensor
    return fitted, lines
