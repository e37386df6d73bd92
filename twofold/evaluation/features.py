"""Images to features: Inception, or any network in a file of the user's; those of a folder are cached by content."""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from twofold.formats import images
from twofold.metrics import inception
from twofold.metrics.labels import colours

Uint8 = NDArray[np.uint8]

BATCH = 16
CACHE_BYTES = 2_000_000_000
"""What cached features may take; those not used for longest make room."""


class Network(NamedTuple):
    """Something that looks at images.

    Attributes:
        name: how its figures are called.
        key: the hash of what its results depend on beside the image.
        prepare: uint8 (1, 3, H, W) to what goes in, float32 (1, 3, h, w); on the CPU, for torch resizes bytes there alone.
        run: what goes in, several at once, to what comes out.
    """

    name: str
    key: str
    prepare: Callable[[Tensor], Tensor]
    run: Callable[[Tensor], Tensor]


def inception_network(path: Path, clean: bool, device: torch.device) -> Network:
    """FID's network, after FID's resize or clean-fid's."""
    network = inception.load(path).to(device)
    prepare = inception.as_clean if clean else inception.as_tensorflow
    return Network("Inception", cache.hash_file(path) + prepare.__name__, prepare, network)


def own_network(path: Path, size: int | None, device: torch.device) -> Network:
    """A network of the user's: TorchScript, or ONNX by its suffix. It takes images (N, 3, H, W) in [-1, 1].

    Args:
        size: what images are resized to, pixels a side; as they are if not given.

    Raises:
        UsageError: it cannot be read, or needs a package that is not installed.
    """
    if not path.is_file():
        raise UsageError(f"there is no network {path}; give a TorchScript or ONNX file")
    if path.suffix == ".onnx":
        run, fixed = onnx(path)
        size = size or fixed
    else:
        run = torchscript(path, device)

    def prepare(pixels: Tensor) -> Tensor:
        return images.to_float(pixels if size is None else resized(pixels, size))

    return Network(path.stem, f"{cache.hash_file(path)}-{size}", prepare, run)


def resized(pixels: Tensor, size: int) -> Tensor:
    """uint8 (N, C, H, W) to squares."""
    return F.interpolate(pixels, (size, size), mode="bicubic", antialias=True)


def torchscript(path: Path, device: torch.device) -> torch.nn.Module:
    """A TorchScript file, which may run code as any program of the user's does."""
    try:
        with warnings.catch_warnings():
            for kind in (DeprecationWarning, FutureWarning):  # torch would rather have torch.export's files
                warnings.simplefilter("ignore", kind)
            return torch.jit.load(path, map_location=device).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"cannot read {path} as TorchScript; save one with torch.jit.trace(network, image).save(PATH)"
        ) from error


def onnx(path: Path) -> tuple[Callable[[Tensor], Tensor], int | None]:
    """An ONNX file, and the side of the squares that it takes, where that is fixed."""
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError(
            f"{path} needs onnxruntime: pip install 'twofold[onnx]', or give TorchScript"
        ) from error
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
    except Exception as error:  # it has exceptions of its own, and not of one kind
        raise UsageError(f"cannot read {path} as ONNX: {' '.join(str(error).split()):.100}") from error

    def run(pixels: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {given.name: pixels.cpu().numpy()})[0])

    side = given.shape[-1]
    return run, side if isinstance(side, int) else None


@torch.inference_mode()
def outputs(network: Network, pictures: Iterable[Uint8], device: torch.device) -> Iterator[Tensor]:
    """What the network makes of each image (H, W, C), on the CPU; neighbours of one size go in together."""
    with_size: list[Tensor] = []
    for picture in pictures:
        prepared = network.prepare(planes(picture)).to(device)
        if with_size and (len(with_size) == BATCH or with_size[0].shape != prepared.shape):
            yield from run(network, with_size)
            with_size = []
        with_size.append(prepared)
    if with_size:
        yield from run(network, with_size)


def planes(picture: Uint8) -> Tensor:
    """(H, W, C) as (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(colours(picture))).permute(2, 0, 1)[None]


def run(network: Network, prepared: Sequence[Tensor]) -> Tensor:
    """One output for each of several images of one size; the first, of a network that gives more than one."""
    batch = torch.cat(list(prepared))
    try:
        found = network.run(batch)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-120:]
        raise UsageError(
            f"{network.name} does not take images of {batch.shape[3]}×{batch.shape[2]} pixels ({reason});"
            " --network-size resizes them"
        ) from error
    found = found if isinstance(found, Tensor) else next(iter(found), None)
    if not isinstance(found, Tensor) or len(found) != len(batch):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(f"{network.name} gives {shape} for {len(batch)} images, not one output for each")
    return found.float().cpu()


def features(network: Network, pictures: Iterable[Uint8], device: torch.device) -> NDArray[np.float32]:
    """A row of features (N, D) for each image.

    Raises:
        UsageError: what comes out is no row of numbers for each image.
    """
    rows = []
    for found in outputs(network, pictures, device):
        row = found.flatten() if found.shape[1:].numel() == 1 else found
        if row.dim() != 1 or len(row) < 2:
            raise UsageError(
                f"{network.name} gives {tuple(found.shape)} for an image; a feature network gives a row of numbers"
            )
        if not row.isfinite().all():
            raise TwofoldError(f"{network.name} gives features that are not finite")
        rows.append(row.numpy())
    return np.stack(rows)


def of_files(
    network: Network, paths: Sequence[Path], channels: int, device: torch.device
) -> NDArray[np.float32]:
    """The features of image files, from the cache where the same were asked for before."""
    digest = hashlib.sha256(network.key.encode())
    for path in paths:
        digest.update(cache.hash_file(path).encode())
    file = cache.home(DataSettings()) / "features" / f"{channels}-{digest.hexdigest()[:32]}.npy"
    try:
        kept = np.load(file)
        os.utime(file)
    except (OSError, ValueError):
        pass
    else:
        return kept
    found = features(network, (images.read(path, channels) for path in paths), device)
    keep(found, file)
    return found


def keep(found: NDArray[np.float32], file: Path) -> None:
    """Write to the cache, if the disk lets us."""
    aside = file.with_name(f".{os.getpid()}-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as target:
            np.save(target, found)
        aside.replace(file)
        newest_first = sorted(file.parent.glob("*.npy"), key=lambda path: -path.stat().st_mtime_ns)
        sizes = np.cumsum([path.stat().st_size for path in newest_first])
        for path in newest_first[int(np.searchsorted(sizes, CACHE_BYTES, "right")) :]:
            path.unlink()
    except OSError:
        aside.unlink(missing_ok=True)


def inception_home() -> Path:
    """Where Inception's weights are kept once they are fetched."""
    return cache.home(DataSettings()) / inception.NAME
