"""A trained generator behind one call: an image of any size in, its translation out."""

from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from twofold import hardware, images
from twofold.errors import UsageError
from twofold.networks.layers import Generator
from twofold.runs import Run
from twofold.translation import model
from twofold.translation.model import Header

BYTES_PER_PIXEL_AND_WIDTH = 16
"""Peak memory of a translation: about four float32 maps of the generator's width at full size."""

Uint8 = NDArray[np.uint8]
At = int | Literal["trained", "native"]


class Translator:
    """A trained generator that takes images as they come and gives images of the same size back."""

    def __init__(self, generator: Generator, header: Header, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = generator.to(self.device).eval()
        self.header = header

    @classmethod
    def load(cls, path: str | Path, *, direction: str = "ab", device: str = "auto") -> "Translator":
        """The translator in a model file, or the newest snapshot of a run folder.

        Args:
            path: a .safetensors file, or a run folder.
            direction: "ab" or "ba"; of a run folder only, a file has its own.
            device: "auto", "cpu", "cuda", ...

        Raises:
            UsageError: there is no such file or snapshot.
            TwofoldError: the file is damaged, not a twofold model, or of a newer format.
        """
        path = Path(path)
        file = Run(path).newest_snapshot(direction) if path.is_dir() else path
        generator, header = model.load(file)
        return cls(generator, header, hardware.pick_device(device))

    def save(self, path: str | Path) -> None:
        """Write the model file; written aside and renamed, so it is whole or absent."""
        model.save(self.generator, self.header, Path(path))

    @overload
    def __call__(self, image: str | Path | Image.Image, *, at: At = "trained") -> Image.Image: ...
    @overload
    def __call__(self, image: Uint8, *, at: At = "trained") -> Uint8: ...
    @overload
    def __call__(self, image: Tensor, *, at: At = "trained") -> Tensor: ...
    def __call__(
        self, image: str | Path | Image.Image | Uint8 | Tensor, *, at: At = "trained"
    ) -> Image.Image | Uint8 | Tensor:
        """Translate one image of any size.

        Args:
            image: a path, a PIL image, a uint8 array (H, W, C) or (H, W), or a uint8 tensor (C, H, W).
            at: the scale the network works at. "trained": the scale it saw in training, the result enlarged
                or reduced back to the image's size. "native": the image's own pixels. A number: that many
                pixels for the mean side.

        Returns:
            The translation, of the image's size and in the kind that came in (PIL for a path).
        """
        if isinstance(image, str | Path):
            return to_pil(self.array(images.read(Path(image), self.channels), at))
        if isinstance(image, Image.Image):
            return to_pil(self.array(images.from_picture(image, self.channels), at))
        if isinstance(image, Tensor):
            if image.dtype != torch.uint8 or image.dim() != 3:
                raise UsageError(
                    f"a tensor should be uint8 (C, H, W), not {image.dtype} {tuple(image.shape)}"
                )
            translated = self.array(np.ascontiguousarray(image.cpu().permute(1, 2, 0).numpy()), at)
            return torch.from_numpy(translated).permute(2, 0, 1).contiguous().to(image.device)
        return self.array(image, at)

    @property
    def channels(self) -> int:
        """Channels of the images that go in."""
        return int(self.header.network["in_channels"])

    @torch.inference_mode()
    def array(self, image: Uint8, at: At = "trained") -> Uint8:
        """Translate a uint8 array (H, W, C); the result has as many rows and columns.

        Raises:
            UsageError: the array's type or channels are not the network's, or it does not fit into memory.
        """
        image = image[..., None] if image.ndim == 2 else image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != self.channels:
            raise UsageError(
                f"this model takes uint8 images (H, W, {self.channels}), not {image.dtype} {image.shape}"
            )
        height, width = image.shape[:2]
        rows, columns = self.working_size(height, width, at)
        self.check_memory(rows, columns)
        inner = image if (rows, columns) == (height, width) else images.resize(image, rows, columns)
        padded = self.pad(inner)
        batch = torch.from_numpy(padded).permute(2, 0, 1)[None].to(self.device)
        translated = images.to_uint8(self.generator(images.to_float(batch)))[0, :, :rows, :columns]
        result = np.ascontiguousarray(translated.permute(1, 2, 0).cpu().numpy())
        return result if (rows, columns) == (height, width) else images.resize(result, height, width)

    def working_size(self, height: int, width: int, at: At) -> tuple[int, int]:
        """Rows and columns that the network will see of an image, before padding."""
        side = self.header.size if at == "trained" else None if at == "native" else at
        if side is None or side * side == height * width:
            return height, width
        multiple = self.generator.multiple_of
        factor = side / (height * width) ** 0.5
        return tuple(max(multiple, round(x * factor / multiple) * multiple) for x in (height, width))  # pyright: ignore[reportReturnType]

    def pad(self, image: Uint8) -> Uint8:
        """Mirror the image at its lower and right edge up to a size the network can take."""
        multiple, least = self.generator.multiple_of, self.generator.minimum
        short = [max(-(-x // multiple) * multiple, least) - x for x in image.shape[:2]]
        return np.pad(image, [(0, short[0]), (0, short[1]), (0, 0)], "symmetric") if any(short) else image

    def check_memory(self, rows: int, columns: int) -> None:
        """Refuse an image whose translation cannot fit, naming a size that would."""
        free = hardware.free_memory(self.device)
        per_pixel = BYTES_PER_PIXEL_AND_WIDTH * int(self.header.network["width"])
        needed = rows * columns * per_pixel
        if free is not None and needed > free:
            fits = int((0.8 * free / per_pixel) ** 0.5)
            raise UsageError(
                f"{columns}×{rows} pixels need about {needed / 2**30:.0f} GiB, {free / 2**30:.0f} are free;"
                f" --at {fits} would fit (the result is enlarged back)"
            )


def to_pil(image: Uint8) -> Image.Image:
    """A PIL image of a uint8 array (H, W, 1, 3 or 4)."""
    if image.shape[2] not in (1, 3, 4):
        raise UsageError(f"{image.shape[2]} channels are no picture; pass and take arrays instead")
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
