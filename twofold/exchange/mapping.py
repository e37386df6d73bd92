"""Find the state dict of a generator in what a checkpoint holds."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from twofold.errors import TwofoldError, UsageError
from twofold.exchange.foreign import kind_of, other_of
from twofold.exchange.untrusted import Inert

ROOT = "."
"""The name of a mapping that is the whole file."""

WRAPPERS = {"module", "_orig_mod", "_forward_module"}
"""First parts of keys that DataParallel, torch.compile and DeepSpeed add; they are in no candidate's name."""

DEEPEST = 48
"""How many levels of containers, and of parts of a key, are looked at."""


# ---- which state dicts there are


def candidates(tree: Any) -> dict[str, dict[str, Tensor]]:
    """The state dicts in what a checkpoint holds, by their place, such as "netG_A2B" or "state_dict/G_AB".

    A state dict that holds several networks (PyTorch Lightning) is split by the first parts of its keys; common
    prefixes of the keys are removed. The whole file is ".".

    Args:
        tree: what `untrusted.read_tree` gives.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for place, state in mappings(tree):
        for name, part in networks(place, state):
            found.setdefault("/".join(name) or ROOT, part)
    return found


def mappings(tree: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping of names to tensors, with its place."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while waiting:
        place, node = waiting.pop()
        inside = children(node)
        if state := {
            name: each for name, each in inside.items() if isinstance(name, str) and is_weight(each)
        }:
            yield place, state
        if len(place) < DEEPEST:
            parts = [(name, each) for name, each in inside.items() if children(each)]
            waiting += [((*place, str(name)), each) for name, each in reversed(parts)]


def children(node: Any) -> Mapping[Any, Any]:
    match node:
        case Inert():
            return node.state if isinstance(node.state, Mapping) else {}
        case Mapping():
            return node
        case list() | tuple():
            return dict(enumerate(node))
        case _:
            return {}


def is_weight(node: Any) -> bool:
    strided = isinstance(node, Tensor) and node.layout is torch.strided
    return strided and (node.is_floating_point() or node.dtype is torch.int64)


def networks(
    place: tuple[str, ...], state: dict[str, Tensor]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """The networks in one state dict: itself, without a common prefix, or one for each first part of the keys."""
    if "exp_avg" in state or "momentum_buffer" in state:
        yield tuple(part for part in place if not part.isdigit()), state  # one for all parameters
        return
    if is_generator(state) or other_of(state):
        yield place, state
        return
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        groups.setdefault(first, {})[rest] = tensor
    parts = [
        each
        for first, group in groups.items()
        if "" not in group and len(place) < DEEPEST
        for each in networks(place if first in WRAPPERS else (*place, first), group)
    ]
    known = [(name, part) for name, part in parts if is_generator(part) or other_of(part)]
    yield from known or [(place, state)]


def is_generator(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of a generator that twofold has."""
    return any(kind_of(prefix + name for name in state) for prefix in ("", "model."))


# ---- which of them to import


def choose(
    found: Mapping[str, dict[str, Tensor]], key: str | None = None, direction: str | None = None
) -> tuple[str, dict[str, Tensor]]:
    """The name and the state dict of the generator to import.

    Args:
        found: what `candidates` gives.
        key: the name of one, or a part of it between slashes.
        direction: "ab" or "ba", where there is a generator of each direction.

    Raises:
        UsageError: several fit, or none has the key; the message lists them.
        TwofoldError: none is a generator.
    """
    if key is not None:
        inside = {name: state for name, state in found.items() if f"/{key}/" in f"/{name}/"}
        inside = {key: found[key]} if key in found else inside
        if not inside:
            raise UsageError(f"the file has no --key {key!r:.60}; it has {listed(found)}")
        found = inside
    fitting = {name: state for name, state in found.items() if is_generator(state)}
    if not fitting:
        raise TwofoldError(what_there_is(found))
    if len(fitting) > 1:
        fitting = one_direction(fitting, direction)
    return next(iter(fitting.items()))


def one_direction(
    fitting: dict[str, dict[str, Tensor]], direction: str | None
) -> dict[str, dict[str, Tensor]]:
    ways = {name: direction_of(name) for name in fitting}
    chosen = {name: state for name, state in fitting.items() if direction and ways[name] == direction}
    if len(chosen) == 1:
        return chosen
    advice = "import one with --key NAME"
    if not direction and set(ways.values()) == {"ab", "ba"} and len(ways) == 2:
        advice = "choose with --direction ab or --direction ba, or import one with --key NAME"
    found = chosen or fitting
    raise UsageError(f"the file holds {len(found)} generators: {listed(found)}; {advice}")


def listed(found: Mapping[str, object]) -> str:
    """The names of candidates, with their directions where the names tell them."""
    ways = {name: direction_of(name) for name in found}
    names = [f"{name:.60} ({way})" if way else f"{name:.60}" for name, way in ways.items()]
    shown = ascii(", ".join(names[:12]))[1:-1]
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def what_there_is(found: Mapping[str, dict[str, Tensor]]) -> str:
    """Why no candidate can be imported."""
    kinds = {name: other_of(state) for name, state in found.items()}
    known = {name: kind for name, kind in kinds.items() if kind}
    if not found:
        return "the file holds no named weights; import a file named *_net_G*.pth"
    if not known:
        first = next(key for state in found.values() for key in state)
        return (
            f"the keys are not those of a generator that twofold has (such as {first!a:.80}); import a file named"
            " *_net_G*.pth"
        )
    if len(set(known.values())) == 1:
        return f"the file holds {next(iter(known.values()))}"
    parts = [f"{name:.60} ({kind.partition(';')[0].partition(',')[0]})" for name, kind in known.items()]
    return f"the file holds no generator, but {ascii(', '.join(parts[:6]))[1:-1]}; import the generator, named *_net_G*.pth"


PREFIX = re.compile(r"^(networks?|net|generators?|gen|model|g)+")
NOISE = {"ema", "avg", "raw", "state", "dict", "weights", "params", "best", "latest"}
WAYS = {
    "ab": ("a", "ab", "a2b", "atob", "x2y", "xtoy", "xy"),
    "ba": ("b", "ba", "b2a", "btoa", "y2x", "ytox", "yx"),
}


def direction_of(name: str) -> str | None:
    """The direction that the name of a generator tells, such as "ab" for netG_A2B, G_AB or G_A; None if it tells none."""
    for part in reversed(name.lower().split("/")):
        words = [word for word in re.split(r"[^a-z0-9]+", part) if word not in NOISE]
        core = "".join(PREFIX.sub("", word) for word in words)
        for direction, names in WAYS.items():
            if core in names:
                return direction
    return None
