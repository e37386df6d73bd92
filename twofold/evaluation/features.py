"""Images to features, by Inception or by a user's network; the features of a folder are cached by content."""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from twofold.data import cache
from twofold.data.settings import DataSettings
from twofold.errors import TwofoldError, UsageError
from twofold.evaluation.reading import read_as
from twofold.files import replacing
from twofold.formats import images
from twofold.formats.display import View
from twofold.formats.npy import Layout
from twofold.formats.values import Uint8
from twofold.metrics import inception
from twofold.metrics.labels import to_rgb

BATCH = 16
CACHE_BYTES = 2_000_000_000
"""Most bytes of cached features; those not used for longest are removed."""


class Network(NamedTuple):
    """A feature network.

    Attributes:
        name: as columns of the table call it.
        key: the hash of all that its features depend on besides the image.
        prepare: uint8 (1, 3, H, W) to the network's input, float32 (1, 3, h, w); on the CPU, because torch resizes
            bytes nowhere else.
        run: a batch of inputs to features (N, D).
    """

    name: str
    key: str
    prepare: Callable[[Tensor], Tensor]
    run: Callable[[Tensor], Tensor]


def inception_network(path: Path, clean: bool, device: torch.device) -> Network:
    """FID's network, after FID's own resize or clean-fid's."""
    network = inception.load(path).to(device)
    prepare = inception.clean_resize if clean else inception.tensorflow_resize
    return Network("Inception", cache.hash_file(path) + prepare.__name__, prepare, network)


def inception_home() -> Path:
    """The place of Inception's weights in the cache folder."""
    return cache.home(DataSettings()) / inception.NAME


def own_network(path: Path, device: torch.device) -> Network:
    """A user's network, TorchScript or ONNX by its suffix, from images (N, 3, H, W) in [-1, 1] to (N, D).

    Raises:
        UsageError: it cannot be read, or needs a package that is not installed.
    """
    if not path.is_file():
        raise UsageError(f"there is no network {path}; give a TorchScript or ONNX file")
    run, side = onnx(path) if path.suffix == ".onnx" else (torchscript(path, device), None)

    def prepare(pixels: Tensor) -> Tensor:
        resized = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True) if side else pixels
        return images.to_float(resized)

    return Network(path.stem, f"{cache.hash_file(path)}-{side}", prepare, run)


def torchscript(path: Path, device: torch.device) -> torch.nn.Module:
    """A TorchScript file, in eval mode. It may run any code, as a program of the user's may."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch recommends torch.export instead
            return torch.jit.load(path, map_location=device).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"cannot read {path} as TorchScript; save one with torch.jit.trace(network, image).save(PATH)"
        ) from error


def onnx(path: Path) -> tuple[Callable[[Tensor], Tensor], int | None]:
    """An ONNX file, and the side of its square input in pixels where that is fixed."""
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError(
            f"{path} needs onnxruntime: pip install 'twofold[export]', or give TorchScript"
        ) from error
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
    except Exception as error:  # it has exceptions of its own, of several kinds
        raise UsageError(f"cannot read {path} as ONNX: {' '.join(str(error).split()):.100}") from error

    def run(pixels: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {given.name: pixels.cpu().numpy()})[0])

    side = given.shape[-1]
    return run, side if isinstance(side, int) else None


def features(network: Network, pictures: Iterable[Uint8], device: torch.device) -> NDArray[np.float32]:
    """The features (N, D) of images (H, W, C) of any sizes.

    Raises:
        UsageError: the network does not take these images, or does not give a row of numbers for each.
        TwofoldError: the features are not finite.
    """
    rows = []
    for batch in batches(network, pictures, device):
        found = run(network, batch)
        if not found.isfinite().all():
            raise TwofoldError(f"{network.name} gives features that are not finite")
        rows.append(found.numpy())
    return stacked(network, rows)


def stacked(network: Network, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Features of several sets of images as one array."""
    if len({part.shape[1] for part in parts}) > 1:
        raise UsageError(
            f"{network.name} gives a different number of features for images of different sizes; resize inside the"
            " network before it is saved"
        )
    return np.concatenate(parts)


def batches(network: Network, pictures: Iterable[Uint8], device: torch.device) -> Iterator[Tensor]:
    """The network's inputs; neighbours of one size go together."""
    prepared = (network.prepare(planes(picture)).to(device) for picture in pictures)
    for _, of_one_size in groupby(prepared, lambda pixels: pixels.shape):
        while batch := [*islice(of_one_size, BATCH)]:
            yield torch.cat(batch)


def planes(picture: Uint8) -> Tensor:
    """(H, W, C) as (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(to_rgb(picture))).permute(2, 0, 1)[None]


@torch.inference_mode()
def run(network: Network, batch: Tensor) -> Tensor:
    """The features (N, D) of one batch, on the CPU; the first output of a network that has several."""
    try:
        found = network.run(batch)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-120:]
        raise UsageError(
            f"{network.name} does not take images of {batch.shape[3]}×{batch.shape[2]} pixels ({reason}); resize"
            " inside the network before it is saved"
        ) from error
    found = found if isinstance(found, Tensor) else next(iter(found), None)
    if isinstance(found, Tensor) and found.dim() > 1 and len(found) == len(batch):
        rows = found.flatten(1).float().cpu()
        if 1 < rows.shape[1] == max(found.shape[1:]):
            return rows
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    raise UsageError(
        f"{network.name} gives {shape} for {len(batch)} images; a feature network gives (N, D), a row of numbers for each"
    )


def features_of_files(
    network: Network, paths: Sequence[Path], view: View, layout: Layout, device: torch.device
) -> NDArray[np.float32]:
    """The features of image files as they are shown, from the cache if they went through this network before."""
    digest = hashlib.sha256(f"{network.key}{view}{layout}".encode())
    for path in paths:
        digest.update(cache.hash_file(path).encode())
    file = cache.home(DataSettings()) / "features" / f"{view.contract.channels}-{digest.hexdigest()[:32]}.npy"
    try:
        stored = np.load(file)
        os.utime(file)
    except (OSError, ValueError):
        pictures = (view.show(read_as(path, view.contract, layout)) for path in paths)
        stored = features(network, pictures, device)
        store(stored, file)
    return stored


def store(found: NDArray[np.float32], file: Path) -> None:
    """Write to the cache and remove the oldest files beyond its limit; a full disk does not matter."""
    with suppress(OSError):
        with replacing(file) as aside, aside.open("wb") as target:
            np.save(target, found)
        newest_first = sorted(file.parent.glob("*.npy"), key=lambda path: -path.stat().st_mtime_ns)
        sizes = np.cumsum([path.stat().st_size for path in newest_first])
        for path in newest_first[int(np.searchsorted(sizes, CACHE_BYTES, "right")) :]:
            path.unlink()
