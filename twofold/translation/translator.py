"""A trained generator behind one call: an image of any size in, its translation out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from twofold import hardware
from twofold.cpu import scratch
from twofold.cpu.accelerate import accelerate
from twofold.errors import TwofoldError, UsageError
from twofold.formats import images
from twofold.formats.lab import from_lab, to_lab
from twofold.networks.layers import Generator
from twofold.runs import Run
from twofold.translation import model
from twofold.translation.backends import Backend, forward
from twofold.translation.model import Header
from twofold.translation.noise import at_test_time

BYTES_PER_PIXEL = 100
BYTES_PER_PIXEL_AND_WIDTH = {"transposed": 20, "resize": 40, "resize-zero": 40, "blur": 40}
"""Peak memory of a translation, measured: the image in several forms, and some maps of the generator's width."""

BATCH = {"cuda": 8, "cpu": 4}
"""Images of one size that go through together, where there are many; on a CPU only small ones."""

SMALL = 512
"""Pixels of a side up to which they gain by it: a filter is transformed once for all, and products are larger."""

SHARE = 0.5
"""Of the free memory that they may take together."""

Uint8 = NDArray[np.uint8]
At = int | Literal["trained", "native"]


class Translator:
    """A trained generator that takes images as they come and gives images of the same size back."""

    def __init__(
        self,
        generator: Generator,
        header: Header,
        device: torch.device | str = "cpu",
        *,
        noise: bool | None = None,
        seed: int = 0,
        precision: str = "float32",
        backend: Backend = "torch",
    ) -> None:
        self.device = torch.device(device)
        self.generator = generator.to(self.device).eval()
        if self.device.type == "cpu" and backend == "torch":
            accelerate(self.generator)
        self.header = header
        self.backend: Backend = backend
        self.noise, self.seed = header.noise if noise is None else noise, seed
        self.forward = forward(backend, self.generator, precision, self.noise)
        self.batch = 1 if self.noise else BATCH.get(self.device.type, 1)
        """Images that go through together at most."""

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        direction: str | None = None,
        device: str = "auto",
        noise: bool | None = None,
        seed: int = 0,
        best: bool = False,
        precision: str = "float32",
        backend: Backend = "torch",
    ) -> "Translator":
        """The translator in a model file, or the newest snapshot of a run folder.

        Args:
            path: a .safetensors file, or a run folder.
            direction: "ab" or "ba"; of a run, "ab" if not given. A file has its own.
            device: "auto", "cpu", "cuda", ...
            noise: whether the network's dropout is on; as the model was trained for, if None.
            seed: of that noise: the same for each image.
            best: of a run, the snapshot that was best on held-out images in place of the newest.
            precision: "float32", "bf16", or "auto": bf16 where the device computes it fast, with results a few
                levels off.
            backend: what runs the network: "torch", or on a CPU "openvino" or "onnxruntime", where installed.

        Raises:
            UsageError: there is no such file or snapshot, it is for the other direction, or the backend is missing.
            TwofoldError: the file is damaged, not a twofold model, or of a newer format.
        """
        path = Path(path)
        where = hardware.pick_device("cpu" if device == "auto" and backend != "torch" else device)
        run, way = Run(path), direction or "ab"
        chosen = run.best_snapshot if best else run.newest_snapshot
        file = chosen(way) if path.is_dir() else path
        generator, header = model.load(file)
        if direction not in (None, header.direction):
            raise UsageError(f"{file} translates {header.direction}, not {direction}; give the other model")
        if precision == "auto":
            precision = "bf16" if hardware.fast_bf16(where) else "float32"
        if where.type == "cpu" or precision == "bf16":
            generator = generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return cls(generator, header, where, noise=noise, seed=seed, precision=precision, backend=backend)

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
            translated = self.array(image.detach().cpu().permute(1, 2, 0).numpy(), at)
            return torch.from_numpy(translated).permute(2, 0, 1).contiguous().to(image.device)
        if not isinstance(image, np.ndarray):
            kind = type(image).__name__
            raise UsageError(f"an image is a path, a PIL image, a uint8 array or tensor, not a {kind}")
        translated = self.array(image, at)
        return translated[..., 0] if image.ndim == 2 and self.out_channels == 1 else translated

    @property
    def channels(self) -> int:
        """Channels of the images that go in."""
        return 3 if self.header.lab else int(self.generator.arguments["in_channels"])

    @property
    def out_channels(self) -> int:
        """Channels of the images that come out."""
        return 3 if self.header.lab else int(self.generator.arguments["out_channels"])

    def array(self, image: Uint8, at: At = "trained") -> Uint8:
        """Translate a uint8 array (H, W, C); the result has as many rows and columns.

        Where the network works in Lab, the image is RGB or grey and keeps the half of its Lab that the network
        sees, pixel by pixel; the other half is the network's answer.

        Raises:
            UsageError: the array's type or channels are not the network's, or it does not fit into memory.
        """
        return self.arrays([image], at)[0]

    def arrays(self, batch: Sequence[Uint8], at: At = "trained") -> list[Uint8]:
        """Translate arrays of one size in one pass, each as `array` does; none depends on its neighbours."""
        try:
            return self._arrays([self.checked(image) for image in batch], at)
        finally:
            scratch.release()

    def _arrays(self, checked: Sequence[Uint8], at: At) -> list[Uint8]:
        if not self.header.lab:
            return self._through(checked, at)
        labs = [to_lab(image) for image in checked]
        half = slice(0, 1) if self.sees_lightness else slice(1, 3)
        answers = self._through([lab[..., half] for lab in labs], at)
        pairs = zip(labs, answers, strict=True)
        if self.sees_lightness:
            return [from_lab(np.concatenate((lab[..., :1], answer), axis=2)) for lab, answer in pairs]
        return [from_lab(np.concatenate((answer, lab[..., 1:]), axis=2)) for lab, answer in pairs]

    def checked(self, image: Uint8) -> Uint8:
        """An array that is one of this model's images, (H, W, C)."""
        image = image[..., None] if image.ndim == 2 else image
        if self.header.lab and image.ndim == 3 and image.shape[2] == 1:
            image = image.repeat(3, axis=2)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != self.channels or not image.size:
            raise UsageError(
                f"this model takes uint8 images (H, W, {self.channels}), not {image.dtype} {image.shape}"
            )
        return image

    @property
    def sees_lightness(self) -> bool:
        """Of a network that works in Lab: whether it goes from lightness to colour."""
        return int(self.generator.arguments["in_channels"]) == 1

    @torch.inference_mode()
    def _through(self, batch: Sequence[Uint8], at: At) -> list[Uint8]:
        """The network's answers to images of one size, in its own channels, at that size."""
        height, width = batch[0].shape[:2]
        rows, columns = self.working_size(height, width, at)
        self.check_memory(rows, columns, len(batch))
        ready = [self.prepare(image, rows, columns) for image in batch]
        planes = torch.from_numpy(np.stack(ready)).permute(0, 3, 1, 2).to(self.device)  # (N, C, H, W)
        with out_of_memory(rows, columns), at_test_time(self.generator, self.noise, self.seed):
            translated = images.to_uint8(self.forward(images.to_float(planes)))[:, :, :rows, :columns]
        results = np.ascontiguousarray(translated.permute(0, 2, 3, 1).cpu().numpy())
        return [images.resize(result, height, width) for result in results]

    def prepare(self, image: Uint8, rows: int, columns: int) -> Uint8:
        image = np.require(image, requirements=["C", "W"])  # torch warns of read-only memory
        return self.pad(images.resize(image, rows, columns, nearest=self.header.labels))

    def working_size(self, height: int, width: int, at: At) -> tuple[int, int]:
        """Rows and columns that the network will see of an image, before padding."""
        if isinstance(at, str) and at not in ("trained", "native"):
            raise UsageError(f"at is trained, native or a number of pixels, not {at!r}")
        side = self.header.size if at == "trained" else None if at == "native" else at
        if side is None or side * side == height * width:
            return height, width
        if side < 1:
            raise UsageError(f"at is a number of pixels, 1 or more, not {side}")
        multiple, factor = self.generator.multiple_of, side / (height * width) ** 0.5

        def near(pixels: int) -> int:
            return max(multiple, round(pixels * factor / multiple) * multiple)

        return near(height), near(width)

    def pad(self, image: Uint8) -> Uint8:
        """Mirror the image at its lower and right edge up to a size the network can take."""
        multiple, least = self.generator.multiple_of, self.generator.minimum
        short = [max(-(-x // multiple) * multiple, least) - x for x in image.shape[:2]]
        return np.pad(image, [(0, short[0]), (0, short[1]), (0, 0)], "symmetric") if any(short) else image

    def together(self, at: At = "trained") -> int:
        """How many images of one size are best translated in one pass, where there are many."""
        side = self.header.size if at == "trained" else at
        if self.device.type != "cpu":
            return self.batch
        if self.backend != "torch" or not isinstance(side, int) or side > SMALL:
            return 1
        free = hardware.free_memory(self.device)
        fit = self.batch if free is None else int(SHARE * free / (side * side * self.bytes_per_pixel))
        return max(1, min(self.batch, fit))

    @property
    def bytes_per_pixel(self) -> int:
        """Peak memory of a translation."""
        arguments = self.generator.arguments
        return BYTES_PER_PIXEL + BYTES_PER_PIXEL_AND_WIDTH[str(arguments["upsample"])] * int(
            arguments["width"]
        )

    def check_memory(self, rows: int, columns: int, count: int = 1) -> None:
        """Refuse images whose translation cannot fit, naming a size at which one would."""
        free = hardware.free_memory(self.device)
        needed = count * rows * columns * self.bytes_per_pixel
        if free is not None and needed > free:
            fits = int((0.8 * free / self.bytes_per_pixel) ** 0.5)
            raise UsageError(
                f"{columns}×{rows} pixels need about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free;"
                f" --at {fits} would fit (the result is enlarged back)"
            )


@contextmanager
def out_of_memory(rows: int, columns: int) -> Iterator[None]:
    """Turn an allocator's error into one line that names what to turn down."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise TwofoldError(
            f"{columns}×{rows} pixels are too many for the memory; --at {max(rows, columns) // 2} takes less"
        ) from error


def to_pil(image: Uint8) -> Image.Image:
    """A PIL image of a uint8 array (H, W, 1, 3 or 4)."""
    if image.shape[2] not in (1, 3, 4):
        raise UsageError(f"{image.shape[2]} channels are no picture; pass and take arrays instead")
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
