"""What a `Translator` takes and gives: paths, PIL images, arrays and tensors, to stored pixels and back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from twofold.errors import TwofoldError, UsageError
from twofold.formats import images, pictures
from twofold.formats.contract import DTYPES, Contract, Labels, Pixels
from twofold.formats.facts import Facts
from twofold.formats.images import Stored
from twofold.formats.metadata import Metadata
from twofold.formats.npy import Layout
from twofold.formats.stored import highest
from twofold.formats.values import from_network, to_network
from twofold.translation.header import contract_in_words

Values = Literal["stored", "unit", "contract"]
"""What the numbers of an array or a tensor are.

"stored": the values as files store them; the result has the type of the target domain.
"unit": floats from 0 to 1, for the whole range of the contract; the result too, as float32.
"contract": floats in the units of the contract, such as Hounsfield units; the result too, as float32.
"""

Give = Callable[[list[Pixels]], Any]
"""From the stored pixels of the translations to the kind of the input."""


class Given(NamedTuple):
    """An input as stored pixels of the source contract, each (H, W, C), and the way back."""

    batch: list[Pixels]
    give: Give


def accept(
    image: object, source: Contract, target: Contract, values: Values = "stored", layout: Layout = "hwc"
) -> Given:
    """Turn any input into stored pixels of `source`; a file gives the same pixels as its array.

    Floats of `values` "unit" and "contract" are rounded to the type of `source` first, as in a file.

    Raises:
        UsageError: another type, shape or number of channels.
        ImageError: the file cannot be read, or does not fit the contract.
    """
    if values not in ("stored", "unit", "contract"):
        raise UsageError(f'values must be "stored", "unit" or "contract", not {values!r}')
    if isinstance(image, np.ndarray):
        return of_array(image, source, target, values)
    if isinstance(image, Tensor):
        return of_tensor(image, source, target, values)
    if not isinstance(image, str | Path | Image.Image):
        kind = type(image).__name__
        raise UsageError(f"an image must be a path, a PIL image, an array or a tensor, not a {kind}")
    if values != "stored":
        raise UsageError(f"values={values!r} is for arrays and tensors of floats")
    decoded = decode(image, source, target, layout)
    check_pil(target)
    return Given([decoded.image], lambda outputs: to_pil(outputs[0], target, decoded.alpha))


class Decoded(NamedTuple):
    """An image as the network takes it, (H, W, C) of the source contract, and what its translation keeps of it."""

    image: Pixels
    alpha: Pixels | None
    metadata: Metadata
    frames: int


def decode(
    image: str | Path | Image.Image,
    source: Contract,
    target: Contract,
    layout: Layout,
    content: bytes | None = None,
) -> Decoded:
    """Read a file or a PIL image and fit it to the contract; arguments as of `read`."""
    stored = read(image, source, layout, content)
    kept = alpha_of(stored, target), metadata_of(stored, source, target)
    return Decoded(images.fit(stored, source), *kept, stored.facts.frames)


def read(
    image: str | Path | Image.Image, source: Contract, layout: Layout, content: bytes | None = None
) -> Stored:
    """A file or a PIL image as it is stored; of a label map of ids with a palette, the indices.

    Args:
        content: the bytes of the file, if the caller has read them.
    """
    indices = source.labels is not None and source.channels == 1
    if isinstance(image, Image.Image):
        return pictures.of_picture(image, indices)
    return images.read_stored(image, content, layout=layout, indices=indices)


def alpha_of(stored: Stored, target: Contract) -> Pixels | None:
    """The alpha (H, W, 1) of a source, for a translation of 3 channels; None where there is none."""
    wanted = stored.facts.alpha and target.channels == 3 and target.labels is None
    return stored.pixels[..., -1:] if wanted else None


def metadata_of(stored: Stored, source: Contract, target: Contract) -> Metadata:
    """The metadata of a source for its translation."""
    if target.labels:
        return stored.metadata._replace(icc=b"")
    return images.metadata_of_fitted(stored, source)


# ---- arrays and tensors


def of_array(image: NDArray[Any], source: Contract, target: Contract, values: Values) -> Given:
    batch = image[..., None] if image.ndim == 2 else image
    if batch.ndim != 3 or batch.shape[2] != source.channels or not batch.size:
        raise UsageError(
            f"this model takes {source.dtype} images (H, W, {source.channels}), not {image.dtype} {image.shape}"
        )

    def give(outputs: list[Pixels]) -> Pixels:
        output = from_stored(outputs[0], target, values)
        return output[..., 0] if image.ndim == 2 and output.shape[2] == 1 else output

    return Given([to_stored(batch, source, target, values)], give)


def of_tensor(image: Tensor, source: Contract, target: Contract, values: Values) -> Given:
    planes = image.detach().cpu()
    batch = planes if planes.dim() == 4 else planes[None]
    if batch.dim() != 4 or batch.shape[1] != source.channels or not batch.numel():
        raise UsageError(
            f"this model takes {source.dtype} tensors ({source.channels}, H, W) or (N, {source.channels}, H, W), "
            f"not {image.dtype} {tuple(image.shape)}"
        )
    numpy_has_it = not batch.is_floating_point() or batch.dtype in (
        torch.float16,
        torch.float32,
        torch.float64,
    )
    arrays = (batch if numpy_has_it else batch.float()).permute(0, 2, 3, 1).numpy()

    def give(outputs: list[Pixels]) -> Tensor:
        array = np.stack([from_stored(output, target, values) for output in outputs])
        output = torch.from_numpy(array).permute(0, 3, 1, 2).contiguous().to(image.device)
        return output if image.dim() == 4 else output[0]

    return Given([to_stored(array, source, target, values) for array in arrays], give)


def to_stored(image: NDArray[Any], source: Contract, target: Contract, values: Values) -> Pixels:
    """Numbers (H, W, C) of any supported type as stored pixels of `source`."""
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    floats = image.dtype.kind == "f"
    if floats and not np.isfinite(image).all():
        raise UsageError("the image has values that are not finite (NaN or infinite); replace them first")
    if values == "stored":
        return same_type(image, source)
    if source.labels or target.labels:
        raise UsageError(f"label maps are ids or colours, not values={values!r}; leave out values")
    if not floats:
        raise UsageError(f"values={values!r} takes floats, not {image.dtype}")
    if values == "unit":
        planes = torch.from_numpy(np.moveaxis(image, 2, 0).astype(np.float64))
        return _last(from_network(planes * 2 - 1, source).numpy())
    units = image.astype(np.float64)
    if np.dtype(source.dtype).kind == "f":
        limits = np.finfo(source.dtype)
    else:
        limits, units = np.iinfo(source.dtype), units.round()
    return units.clip(float(limits.min), float(limits.max)).astype(source.dtype)


def same_type(image: NDArray[Any], source: Contract) -> Pixels:
    """The array in the type of `source`, converted as the pixels of a file are."""
    if image.dtype == source.dtype:
        return image
    refusal = f"this model takes {contract_in_words(source)}, not {image.dtype} {image.shape}"
    if image.dtype.name not in DTYPES:
        raise UsageError(refusal)
    height, width, channels = image.shape
    facts = Facts(width, height, channels, channels == 1, dtype=image.dtype.name, bits=8 * image.itemsize)
    try:
        return images.fit(Stored(image, facts, Metadata()), source)
    except TwofoldError as error:
        hint = ' (for floats say values="unit" or "contract")' if image.dtype.kind == "f" else ""
        raise UsageError(f"{refusal}: {error}{hint}") from error


def from_stored(output: Pixels, target: Contract, values: Values) -> Pixels:
    """The stored pixels (H, W, C) of a translation as `values` wants them."""
    if values == "stored":
        return output
    if values == "contract":
        return output.astype(np.float32)
    planes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(output, 2, 0)))
    return _last((to_network(planes, replace(target, labels=None)).numpy() + 1) / 2)


def _last(planes: NDArray[Any]) -> NDArray[Any]:
    """(C, H, W) to (H, W, C)."""
    return np.ascontiguousarray(np.moveaxis(planes, 0, 2))


# ---- PIL images

_PIL = {("uint8", 1), ("uint8", 3), ("uint8", 4), ("uint16", 1), ("int32", 1), ("float32", 1)}
"""Types and channels of the images that PIL can hold."""


def check_pil(target: Contract) -> None:
    """Raise UsageError where PIL cannot hold what the model gives."""
    if (target.dtype, target.channels) not in _PIL:
        what = f"{target.channels} channels" if (target.dtype, 1) in _PIL else target.dtype
        raise UsageError(
            f"the model gives {what}, which PIL cannot hold; use translator.array to get an array"
        )


def to_pil(image: Pixels, target: Contract, alpha: Pixels | None = None) -> Image.Image:
    """A PIL image of pixels (H, W, C) of the contract, with alpha (H, W, 1) if given."""
    if alpha is not None:
        opaque = highest(alpha.dtype, 8 * alpha.itemsize)
        image = np.concatenate([image, np.rint(alpha * (255 / opaque)).astype(np.uint8)], 2)
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if target.labels and target.labels.palette and picture.mode == "L":
        picture.putpalette([part for colour in target.labels.palette for part in colour])
    return picture


def unknown_in_words(unknown: Sequence[int], labels: Labels) -> str:
    """Why a label map cannot be translated."""
    listed, first = ", ".join(map(str, unknown[:3])), ", ".join(map(str, (labels.ids or ())[:3]))
    more = ", …" if len(unknown) > 3 else ""
    return (
        f"its ids {listed}{more} are none of the {len(labels.values)} classes that the model was trained on ({first}, …);"
        " change them to ids of those classes"
    )
