"""Weights that are not trained."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from twofold.errors import UsageError
from twofold.methods.base import Method

ENCODER = ("gen_*.enter", "gen_*.down")
"""What `--freeze encoder` means: the generators' layers down to the smallest size."""


def freeze(method: Method, patterns: Sequence[str]) -> None:
    """Exclude the weights whose names fit a pattern from training; "encoder" stands for `ENCODER`.

    A pattern is a name such as gen_ab.down.0.conv.weight, or its beginning up to a point; * and ? are wildcards.

    Raises:
        UsageError: a pattern fits no name, or nothing is left to train for an optimizer.
    """
    named = named_parameters(method)
    for pattern in patterns:
        if not (found := fitting(named, pattern)):
            known = ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name in named))
            raise UsageError(f"--freeze {pattern} fits no weight; the networks have {known}")
        for name in found:
            layer, bias = method.get_submodule(name.rpartition(".")[0]), name.endswith(".bias")
            if bias and named[name].requires_grad and hasattr(layer, "norm_follows"):
                # CUT sees the values before the norm; see `layers.before_norm`
                layer.norm_follows = False  # pyright: ignore[reportArgumentType]
            named[name].requires_grad_(False)
    for networks in method.phases.values() if patterns else ():
        if not any(p.requires_grad for each in networks for p in method.get_submodule(each).parameters()):
            raise UsageError(
                f"--freeze {','.join(patterns)} leaves nothing to train in {' and '.join(networks)}; freeze less"
            )


def fitting(names: Iterable[str], pattern: str) -> list[str]:
    parts = ENCODER if pattern == "encoder" else (pattern,)
    return [
        name
        for name in names
        if any(fnmatchcase(name, part) or fnmatchcase(name, f"{part}.*") for part in parts)
    ]


def frozen(method: Method, patterns: Sequence[str]) -> str:
    """How many parameters the patterns of `freeze` exclude, and in which networks, in words."""
    named = named_parameters(method)
    names = {name for pattern in patterns for name in fitting(named, pattern)}
    count, total = (sum(named[name].numel() for name in each) for each in (names, named))
    networks = dict.fromkeys(name.split(".")[0] for name in named if name in names)
    return f"{count:,} of {total:,} parameters, in {', '.join(networks)}"


def named_parameters(method: Method) -> dict[str, nn.Parameter]:
    """The parameters of all trained networks."""
    return {
        f"{network}.{name}": parameter
        for network, module in method.networks().items()
        for name, parameter in module.named_parameters()
    }
