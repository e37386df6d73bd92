"""Networks as torch's compiler makes them, and whether that will pay."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from twofold.methods.base import Method
from twofold.networks.layers import Discriminator, Generator

PAYS_FROM = {"cuda": 2_000 * 256**2, "cpu": 2_000 * 128**2}
"""Pixels, over all images of a run, from which it gains more than compiling takes: about two minutes of two cores,
against a fifth of a second an image (bf16, ResNet-6, 128 px). The figure for CUDA is a guess."""


def pays(device: torch.device, precision: str, size: int, images: int) -> bool:
    """Whether to compile a run of so many images: where a compiler is, and what it makes is faster.

    In float32 on a CPU it is not: our own convolutions are twice as fast as what a compiled network calls.
    """
    kind = device.type
    if kind not in PAYS_FROM or (kind == "cpu" and precision != "bf16") or not available(device):
        return False
    return images * size**2 >= PAYS_FROM[kind]


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


@contextmanager
def eagerly() -> Iterator[None]:
    """Inside, compiled networks run as they are written."""
    with torch.compiler.set_stance("force_eager"):
        yield
