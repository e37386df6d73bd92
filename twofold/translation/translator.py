"""The translator: a trained generator that takes an image of any size and returns its translation at that size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from twofold import hardware
from twofold.cpu.accelerate import accelerate
from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import Contract
from twofold.formats.lab import from_lab, to_lab
from twofold.formats.values import Uint8
from twofold.networks.layers import Generator
from twofold.runs import Run
from twofold.translation import memory, model_file
from twofold.translation.backends import Backend, make_forward
from twofold.translation.header import Header
from twofold.translation.noise import at_test_time

MAX_BATCH = {"cuda": 8, "cpu": 4}
"""Images of one size in a batch, at most."""

MAX_BATCHED_SIDE = 512
"""Largest side in pixels at which batches are faster on a CPU: each filter is transformed once for all images."""

LIGHTNESS, COLOUR = slice(0, 1), slice(1, 3)
"""Channels of a Lab image."""

At = int | Literal["trained", "native"]


class Translator:
    """A trained generator that translates images of any size.

    >>> translator = Translator.load("runs/h2z")
    >>> zebra = translator("horse.jpg")  # a PIL image in the size of horse.jpg
    """

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
        self.forward = make_forward(backend, self.generator, precision, self.noise)
        self.max_batch = 1 if self.noise else MAX_BATCH.get(self.device.type, 1)

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
        """Load a model file, or the newest snapshot of a run.

        Args:
            path: a .safetensors file, or a run folder.
            direction: "ab" or "ba". For a run: "ab" if not given. A model file has one direction; another is an error.
            device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".
            noise: whether dropout is on, as in pix2pix; None: as the model was trained for.
            seed: of the dropout masks, which are the same for every image of one size.
            best: of a run, load the snapshot that was best on held-out images instead of the newest.
            precision: "float32", "bf16" (results differ by a few of 255 levels), or "auto": bf16 where the device
                computes it fast.
            backend: "torch"; on a CPU also "openvino" or "onnxruntime", if installed.

        Raises:
            UsageError: the file or the snapshot does not exist or has the other direction, or the device or the
                backend is missing.
            TwofoldError: the file is damaged, not a twofold model, or of a newer format.
        """
        place = hardware.pick_device("cpu" if device == "auto" and backend != "torch" else device)
        file = Path(path)
        if file.is_dir():
            snapshot = Run(file).best_snapshot if best else Run(file).newest_snapshot
            file = snapshot(direction or "ab")
        generator, header = model_file.load(file)
        if direction not in (None, header.direction):
            raise UsageError(f"{file} translates {header.direction}, not {direction}; load the other model")
        if precision == "auto":
            precision = "bf16" if hardware.fast_bf16(place) else "float32"
        if place.type == "cpu" or precision == "bf16":
            generator = generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return cls(generator, header, place, noise=noise, seed=seed, precision=precision, backend=backend)

    def save(self, path: str | Path) -> None:
        """Write the model file, whole or not at all; a saved translator loads as it is. OSError if the disk refuses."""
        model_file.save(self.generator, self.header, Path(path))

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
            image: a path, a PIL image, a uint8 array (H, W, C) or (H, W), or a uint8 tensor (C, H, W); 0 to 255. Paths
                and PIL images are converted to the model's channels.
            at: the scale at which the network sees the image. "trained": as many pixels as in training; the result is
                resized to the image's size. "native": the image's own pixels. A number n: about n² pixels.

        Returns:
            The translation, with the image's height and width: a PIL image for a path or a PIL image, an array
            (H, W, C) or (H, W) for an array, a tensor (C, H, W) on the same device for a tensor.

        Raises:
            UsageError: the image has another type, shape or number of channels, or needs more memory than is free.
            TwofoldError: the file cannot be read, or the memory did not suffice.
        """
        if isinstance(image, str | Path):
            return to_pil(self.array(images.read(image, self.channels), at))
        if isinstance(image, Image.Image):
            return to_pil(self.array(images.from_picture(image, self.channels), at))
        if isinstance(image, Tensor):
            if image.dtype != torch.uint8 or image.dim() != 3:
                raise UsageError(f"a tensor must be uint8 (C, H, W), not {image.dtype} {tuple(image.shape)}")
            output = torch.from_numpy(self.array(image.detach().cpu().permute(1, 2, 0).numpy(), at))
            return output.permute(2, 0, 1).contiguous().to(image.device)
        if not isinstance(image, np.ndarray):
            kind = type(image).__name__
            raise UsageError(f"an image must be a path, a PIL image, a uint8 array or tensor, not a {kind}")
        output = self.array(image, at)
        return output[..., 0] if image.ndim == 2 and self.out_channels == 1 else output

    @property
    def channels(self) -> int:
        """Channels of an input image."""
        return 3 if self.header.lab else int(self.generator.arguments["in_channels"])

    @property
    def out_channels(self) -> int:
        """Channels of a translation."""
        return 3 if self.header.lab else int(self.generator.arguments["out_channels"])

    @property
    def source(self) -> Contract:
        """What an input image is."""
        return Contract(channels=self.channels)

    @property
    def target(self) -> Contract:
        """What a translation is."""
        return Contract(channels=self.out_channels)

    def array(self, image: Uint8, at: At = "trained") -> Uint8:
        """Translate a uint8 array (H, W, channels) or (H, W) to (H, W, out_channels); see `arrays`."""
        return self.arrays([image], at)[0]

    def arrays(self, batch: Sequence[Uint8], at: At = "trained") -> list[Uint8]:
        """Translate arrays of one size together, which is faster than one by one; none depends on the others.

        A network in Lab predicts lightness or colour. The image, RGB or grey, keeps its other part pixel by pixel.

        Args:
            batch: uint8 arrays (H, W, channels) or (H, W), 0 to 255, of one H and W; best `batch_size(at)` of them.
            at: the scale, as in `__call__`.

        Returns:
            uint8 arrays (H, W, out_channels).

        Raises:
            UsageError: an array has another type or number of channels, or the batch needs more memory than is free.
            TwofoldError: the memory did not suffice.
        """
        batch = [self._checked(image) for image in batch]
        if not self.header.lab:
            return self._translate(batch, at)
        sees_lightness = self.generator.arguments["in_channels"] == 1
        given, predicted = (LIGHTNESS, COLOUR) if sees_lightness else (COLOUR, LIGHTNESS)
        labs = [to_lab(image) for image in batch]
        for lab, output in zip(labs, self._translate([lab[..., given] for lab in labs], at), strict=True):
            lab[..., predicted] = output
        return [from_lab(lab) for lab in labs]

    def batch_size(self, at: At = "trained") -> int:
        """Images of one size that are best translated together when there are many."""
        if self.device.type != "cpu":
            return self.max_batch
        side = self._side(at)
        if self.backend != "torch" or side is None or side > MAX_BATCHED_SIDE:
            return 1
        fitting = memory.batch_that_fits(self.generator, self.device, side)
        return self.max_batch if fitting is None else max(1, min(self.max_batch, fitting))

    def working_size(self, height: int, width: int, at: At = "trained") -> tuple[int, int]:
        """Height and width in pixels at which the network sees an image, before padding."""
        side, multiple = self._side(at), self.generator.multiple_of
        if side is None or side * side == height * width:
            return height, width
        steps = side / (height * width) ** 0.5 / multiple
        return max(1, round(height * steps)) * multiple, max(1, round(width * steps)) * multiple

    def pad(self, image: Uint8) -> Uint8:
        """Mirror (H, W, C) at its lower and right edge up to a size that the network takes."""
        multiple, minimum = self.generator.multiple_of, self.generator.minimum
        added = [max(-(-pixels // multiple) * multiple, minimum) - pixels for pixels in image.shape[:2]]
        return np.pad(image, [(0, added[0]), (0, added[1]), (0, 0)], "symmetric") if any(added) else image

    def _side(self, at: At) -> int | None:
        """The network sees about side² pixels, in the image's proportions; None: the image's own pixels."""
        if at == "trained":
            return self.header.size
        if at == "native":
            return None
        if isinstance(at, str) or at < 1:
            raise UsageError(f'at must be "trained", "native" or a number of pixels, 1 or more, not {at!r}')
        return at

    def _checked(self, image: Uint8) -> Uint8:
        """The image as (H, W, channels), or UsageError."""
        image = image[..., None] if image.ndim == 2 else image
        if self.header.lab and image.ndim == 3 and image.shape[2] == 1:
            image = image.repeat(3, axis=2)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != self.channels or not image.size:
            raise UsageError(
                f"this model takes uint8 images (H, W, {self.channels}), not {image.dtype} {image.shape}"
            )
        return image

    @torch.inference_mode()
    def _translate(self, batch: Sequence[Uint8], at: At) -> list[Uint8]:
        """Run the network on images (H, W, its in_channels) of one size; the outputs have the images' size."""
        height, width = batch[0].shape[:2]
        rows, columns = self.working_size(height, width, at)
        memory.check_memory(self.generator, self.device, rows, columns, len(batch))
        contiguous = (np.require(image, requirements=["C", "W"]) for image in batch)  # torch warns otherwise
        resized = (images.resize(image, rows, columns, nearest=self.header.labels) for image in contiguous)
        padded = np.stack([self.pad(image) for image in resized])
        inputs = torch.from_numpy(padded).permute(0, 3, 1, 2).to(self.device)  # (N, C, H, W)
        with memory.explain_out_of_memory(rows, columns), at_test_time(self.generator, self.noise, self.seed):
            outputs = images.to_uint8(self.forward(images.to_float(inputs)))[:, :, :rows, :columns]
        arrays = np.ascontiguousarray(outputs.permute(0, 2, 3, 1).cpu().numpy())
        return [images.resize(array, height, width) for array in arrays]


def to_pil(image: Uint8) -> Image.Image:
    """A PIL image of a uint8 array (H, W, 1, 3 or 4)."""
    if image.shape[2] not in (1, 3, 4):
        raise UsageError(
            f"the model gives {image.shape[2]} channels, which PIL cannot hold; pass an array to get an array"
        )
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
