"""Networks as torch's compiler makes them, and whether that will pay."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from twofold.methods.base import Method
from twofold.networks.layers import Discriminator, Generator
from twofold.networks.resnet import ResnetGenerator

PAYS_FROM = 2_000 * 256**2
"""Pixels, over all images of a run, from which a GPU gains more than compiling takes: a guess."""


def pays(device: torch.device, size: int, images: int) -> bool:
    """Whether to compile a run of so many images: where a compiler is, and what it makes is faster.

    On a CPU it is not. In float32 our own convolutions are twice as fast as what a compiled network calls; in bf16 our filters'
    gradients and small maps are, which outweighs what a compiler gains around them (docs/performance.md).
    """
    return device.type == "cuda" and images * size**2 >= PAYS_FROM and available(device)


def available(device: torch.device) -> bool:
    """Whether torch finds what it compiles with: a C++ compiler, on CUDA Triton as well."""
    compiler = any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    return compiler and (device.type != "cuda" or find_spec("triton") is not None)


def compile_networks(method: Method) -> None:
    """Compile each network's call, in place: its parameters, their names and its state stay as they are.

    Critics whose gradient is penalised stay as they are: a compiled network has no gradient of its gradient.
    """
    kinds = Generator if method.penalises else (Generator, Discriminator)
    for network in method.networks().values():
        if isinstance(network, kinds):
            network.compile(dynamic=False)
        if isinstance(network, ResnetGenerator):  # the call of CUT
            network.forward_with_features = torch.compile(network.forward_with_features, dynamic=False)


@contextmanager
def eagerly() -> Iterator[None]:
    """Inside, compiled networks run as they are written."""
    with torch.compiler.set_stance("force_eager"):
        yield
