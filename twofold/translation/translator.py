"""The translator: a trained generator that takes an image of any size and returns its translation at that size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from twofold import hardware
from twofold.cpu.accelerate import accelerate
from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import Contract, Pixels
from twofold.formats.lab import from_lab, to_lab
from twofold.formats.values import UINT8, from_network, last_axis, stored_pixels, to_network
from twofold.networks.layers import Generator
from twofold.runs import Track
from twofold.translation import memory, model_file, sizes, tiles
from twofold.translation.backends import Backend, make_forward
from twofold.translation.header import Header
from twofold.translation.inputs import Values, accept, decode, unknown_in_words
from twofold.translation.noise import at_test_time
from twofold.translation.regions import Graph
from twofold.translation.sizes import At
from twofold.translation.statistics import context_of
from twofold.translation.tiles import Tiling
from twofold.translation.windows import Windowed

if TYPE_CHECKING:
    from twofold.translation.folder import Results
    from twofold.translation.sources import Job

MAX_BATCH = {"cuda": 8, "cpu": 4}
"""Images of one size in a batch, at most."""

MAX_BATCHED_SIDE = 512
"""Largest side in pixels at which batches are faster on a CPU: each filter is transformed once for all images."""

LIGHTNESS, COLOUR = slice(0, 1), slice(1, 3)
"""Channels of a Lab image."""


class Translator(Windowed):
    """A trained generator that translates images of any size.

    >>> translator = Translator.load("runs/h2z")
    >>> zebra = translator("horse.jpg")  # a PIL image in the size of horse.jpg

    Attributes:
        generator: the network on `device`, in eval mode: float32 (N, C, H, W) in [-1, 1] at the network's scale, to the
            same; H and W as `generator.multiple_of` and `generator.minimum` say.
        source, target: what the pixels of the inputs and of the translations are: dtype, channels, range.
        tiling: when an image is translated in tiles, and how; may be set at any time.
        notify: gets a line about each kind of tiling that is used; may be set at any time.
        track: gets the parts of an image in tiles, their number, what is done to them and how many were done before, and
            yields them again, to show progress; may be set at any time.
    """

    tiling = Tiling()
    notify: Callable[[str], None] | None = None
    track: Track | None = None

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
        self.header = header
        self.source, self.target = header.source_contract, header.target_contract
        self.backend: Backend = backend
        self.noise, self.seed, self.precision = header.noise if noise is None else noise, seed, precision
        self._prepare()
        alone = self.noise or self.target.is_deep  # in a batch, sums round otherwise: one level of 12 bits
        self.max_batch = 1 if alone else MAX_BATCH.get(self.device.type, 1)

    def _prepare(self) -> None:
        if self.device.type == "cpu" and self.backend == "torch":
            accelerate(self.generator)
        self.forward = make_forward(self.backend, self.generator, self.precision, self.noise)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "forward"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()  # a pickle holds neither the faster layers nor the session of a backend

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
            path: a .safetensors file, a run folder, or an .onnx file that `twofold export` wrote, which ONNX Runtime
                runs on the CPU.
            direction: "ab" or "ba". For a run: "ab" if not given. A model file has one direction; another is an error.
            device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".
            noise: whether dropout is on, as in pix2pix; None: as the model was trained for.
            seed: of the dropout masks, which are the same for every image of one size.
            best: of a run, load the snapshot that was best on held-out images instead of the newest.
            precision: "float32", "bf16" (results differ by a few of 255 levels), or "auto": bf16 where the device
                computes it fast, and float32 where a domain is deeper than 8 bits: bf16 keeps too few of its levels.
            backend: "torch"; on a CPU also "openvino" or "onnxruntime", if installed.

        Raises:
            UsageError: the file or the snapshot does not exist or has the other direction, or the device or the
                backend is missing.
            TwofoldError: the file is damaged, not a twofold model, or of a newer format.
        """
        file = Path(path)
        if file.suffix == ".onnx":
            from twofold.translation.onnx_translator import load_onnx

            return load_onnx(
                file, direction=direction, device=device, noise=noise, precision=precision, backend=backend
            )
        generator, header = model_file.load(file, direction, best)
        return cls.of(
            generator, header, device=device, noise=noise, seed=seed, precision=precision, backend=backend
        )

    @classmethod
    def of(
        cls,
        generator: Generator,
        header: Header,
        *,
        device: str = "auto",
        noise: bool | None = None,
        seed: int = 0,
        precision: str = "float32",
        backend: Backend = "torch",
    ) -> "Translator":
        """A translator of a generator in memory, which is changed for the device; arguments as of `load`."""
        place = hardware.pick_device("cpu" if device == "auto" and backend != "torch" else device)
        generator = generator.requires_grad_(False)
        if precision == "auto":
            deep = header.source_contract.is_deep or header.target_contract.is_deep
            fast = hardware.fast_bf16(place) and backend != "onnxruntime"
            precision = "bf16" if fast and not deep else "float32"
        if place.type == "cpu" or precision == "bf16":
            generator = generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return cls(generator, header, place, noise=noise, seed=seed, precision=precision, backend=backend)

    def save(self, path: str | Path) -> None:
        """Write the model file, whole or not at all; a saved translator loads as it is. OSError if the disk refuses."""
        model_file.save(self.generator, self.header, Path(path))

    @overload
    def __call__(self, image: str | Path | Image.Image, *, at: At = "trained") -> Image.Image: ...
    @overload
    def __call__(self, image: Pixels, *, at: At = "trained", values: Values = "stored") -> Pixels: ...
    @overload
    def __call__(self, image: Tensor, *, at: At = "trained", values: Values = "stored") -> Tensor: ...
    def __call__(
        self,
        image: str | Path | Image.Image | Pixels | Tensor,
        *,
        at: At = "trained",
        values: Values = "stored",
    ) -> Image.Image | Pixels | Tensor:
        """Translate one image of any size, or a batch of images as a tensor.

        The same image gives the same pixels as a path, a PIL image, an array or a tensor, and on the command line.

        Args:
            image: a path, a PIL image, an array (H, W, C) or (H, W), or a tensor (C, H, W) or (N, C, H, W). Paths and
                PIL images are converted to the channels of `source`. Arrays and tensors have them, in any memory
                layout; other types than that of `source` are converted as those of files are.
            at: the scale at which the network sees the image. "trained": as in training; the result is resized to the
                image's size. "native": the image's own pixels. A number n: about n² pixels.
            values: what the numbers of an array or a tensor are. "stored": as files store them. "unit": floats from
                0 to 1 for the range of the contract. "contract": floats in the units of the contract. Floats are
                rounded to the type of `source` first, and clipped to its range.

        Returns:
            The translation, with the image's height and width, in the dtype of `target` or, unless `values` is
            "stored", as float32: a PIL image for a path or a PIL image (with the alpha of the image if `target` has 3
            channels), an array (H, W, C) or (H, W) for an array, a tensor (C, H, W) or (N, C, H, W) on the same device
            for a tensor.

        Raises:
            UsageError: the image has another type, shape or number of channels, or needs more memory than is free, or
                PIL cannot hold the result.
            TwofoldError: the file cannot be read, or the memory did not suffice.
        """
        given = accept(self._in_colour(image), self.source, self.target, values, self.header.layout)
        most = self.batch_size(at)
        parts = (given.batch[start : start + most] for start in range(0, len(given.batch), most))
        return given.give([output for part in parts for output in self.arrays(part, at)])

    @cached_property
    def graph(self) -> Graph:
        """The steps of the network, to compute it in parts."""
        return Graph(self.generator)

    @cached_property
    def context(self) -> tuple[int, ...]:
        """The steps whose outputs for the whole image a tile needs."""
        return context_of(self.graph)

    @property
    def channels(self) -> int:
        """Channels of an input image."""
        return self.source.channels

    @property
    def out_channels(self) -> int:
        """Channels of a translation."""
        return self.target.channels

    def array(self, image: str | Path | Image.Image | Pixels, at: At = "trained") -> Pixels:
        """Translate one image to an array (H, W, out_channels) in the dtype of `target`; see `__call__`."""
        return self.arrays([self.stored(image)], at)[0]

    def stored(self, image: str | Path | Image.Image | Pixels) -> Pixels:
        """An image as stored pixels of `source`, (H, W, channels)."""
        if isinstance(image, str | Path | Image.Image):
            return decode(image, self.source, self.target, self.header.layout).image
        (pixels,) = accept(self._in_colour(image), self.source, self.target).batch
        return pixels

    def arrays(self, batch: Sequence[Pixels], at: At = "trained") -> list[Pixels]:
        """Translate arrays; those of one working size together, which is faster than one by one.

        A network in Lab predicts lightness or colour. The image, RGB or grey, keeps its other part pixel by pixel.

        Args:
            batch: arrays (H, W, channels) or (H, W) in the dtype of `source`; best `batch_size(at)` of one
                `working_size`. None depends on the others.
            at: the scale, as in `__call__`.

        Returns:
            arrays (H, W, out_channels) in the dtype of `target`.

        Raises:
            UsageError: an array has another type or number of channels, or the batch needs more memory than is free.
            TwofoldError: the memory did not suffice.
        """
        batch = [self._checked(image) for image in batch]
        working_sizes = {self.working_size(image.shape[0], image.shape[1], at) for image in batch}
        if len(working_sizes) != 1 or (self.max_batch == 1 and len(batch) > 1):
            return [self.arrays([image], at)[0] for image in batch]
        if not self.header.lab:
            return self._translate(batch, at, self.source, self.target)
        sees_lightness = self.generator.arguments["in_channels"] == 1
        given, predicted = (LIGHTNESS, COLOUR) if sees_lightness else (COLOUR, LIGHTNESS)
        labs = [to_lab(image) for image in batch]
        outputs = self._translate([lab[..., given] for lab in labs], at, UINT8, UINT8)
        for lab, output in zip(labs, outputs, strict=True):
            lab[..., predicted] = output
        return [from_lab(lab) for lab in labs]

    def folder(
        self,
        inputs: str | Path | Sequence[str | Path],
        out: str | Path,
        *,
        at: At = "trained",
        format: str | None = None,
        quality: int | None = None,
        skip_existing: bool = False,
        notify: Callable[[str], None] | None = None,
        track: Callable[[Iterator["Job"], int], Iterable["Job"]] | None = None,
    ) -> "Results":
        """Translate files and folders to files, as `twofold translate` does.

        Args:
            inputs: image files, and folders with their subfolders.
            out: the folder for the results; for one image also a file name.
            at: the scale, as in `__call__`.
            format: of the results: "png", "tif" and so on, or "same" as the source. None: PNG where it holds the dtype
                and the channels, else as the source if that holds them, else TIFF.
            quality: of jpg, webp and avif, 1 to 100.
            skip_existing: leave results that exist as they are, and do not translate their sources.
            notify: gets a line for each of the first ten files that could not be translated, one with the number of the
                others, and the lines of `folder.translate_files`.
            track: gets the finished jobs and their number, and yields them again, to show progress.

        Returns:
            The files written, those that existed, and the problem of each file that could not be translated.

        Raises:
            UsageError: an input is missing, or a format does not hold the results; nothing was written.
            TwofoldError: a result cannot be written. Files written before are complete.
            KeyboardInterrupt: with what is done and how to go on.
        """
        from twofold.translation.folder import translate_folder

        paths = [Path(each) for each in ([inputs] if isinstance(inputs, str | Path) else inputs)]
        return translate_folder(
            self, paths, Path(out), at, format, quality, skip_existing, notify=notify, track=track
        )

    def batch_size(self, at: At = "trained", size: tuple[int, int] | None = None) -> int:
        """Images of one `working_size` that are best translated together when there are many.

        Args:
            size: that size; without it 1 where `at` leaves images at their own size.
        """
        if self.device.type != "cpu":
            return self.max_batch
        side = isqrt(size[0] * size[1]) if size else sizes.mean_side(self.header, at)
        if self.backend != "torch" or side is None or side > MAX_BATCHED_SIDE:
            return 1
        fitting = memory.batch_that_fits(self.generator, self.device, side)
        return self.max_batch if fitting is None else max(1, min(self.max_batch, fitting))

    def working_size(self, height: int, width: int, at: At = "trained") -> tuple[int, int]:
        """Height and width in pixels at which the network sees an image, before padding."""
        return sizes.working_size(self.header, self.generator.multiple_of, height, width, at)

    def pad(self, image: Pixels) -> Pixels:
        """Mirror (H, W, C) at its lower and right edge up to a size that the network takes."""
        return sizes.pad(image, [sizes.taken(side, self.generator) for side in image.shape[:2]])

    def _in_colour(self, image: Any) -> Any:
        """The input, a grey array repeated to three channels for a Lab model."""
        if self.header.lab and isinstance(image, np.ndarray) and (image.ndim == 2 or image.shape[2:] == (1,)):
            return np.atleast_3d(image).repeat(3, axis=2)
        return image

    def _checked(self, image: Pixels) -> Pixels:
        """The image as (H, W, channels), or UsageError."""
        image = self._in_colour(image[..., None] if image.ndim == 2 else image)
        given, wanted = (image.dtype, image.shape[2:], image.ndim), (self.source.dtype, (self.channels,), 3)
        if given != wanted or not image.size:
            raise UsageError(
                f"this model takes {self.source.dtype} images (H, W, {self.channels}), not {image.dtype} {image.shape}"
            )
        if self.source.labels and (unknown := self.source.labels.unknown_ids(image)):
            raise UsageError(unknown_in_words(unknown, self.source.labels))
        return image

    @torch.inference_mode()
    def _translate(self, batch: Sequence[Pixels], at: At, source: Contract, target: Contract) -> list[Pixels]:
        """Run the network on stored images of one working size; each output has its image's own size.

        Deep outputs are resized as floats, so that they are rounded once.
        """
        given = [(image.shape[0], image.shape[1]) for image in batch]
        rows, columns = self.working_size(*given[0], at)
        tile = tiles.tile_for(self, rows, columns, len(batch))
        if tile and len(batch) > 1:
            return [each for image in batch for each in self._translate([image], at, source, target)]
        contiguous = (np.require(image, requirements=["C", "W"]) for image in batch)  # torch warns otherwise
        resized = (images.resize(image, rows, columns, nearest=self.header.nearest) for image in contiguous)
        with (
            memory.for_large_images(len(batch) * rows * columns),
            memory.explain_out_of_memory(rows, columns),
            at_test_time(self.generator, self.noise, self.seed),
        ):
            if tile:
                outputs = tiles.translated(self, next(resized), tile, source)
            else:
                padded = np.stack([self.pad(image) for image in resized])
                outputs = self.forward(self.to_network(padded, source))[:, :, :rows, :columns]
                del padded
            if not target.is_deep:
                nearest = target.labels is not None
                pairs = zip(stored_pixels(outputs, target), given, strict=True)
                return [images.resize(array, *size, nearest=nearest) for array, size in pairs]
            pairs = zip(last_axis(outputs), given, strict=True)
            sized = [images.resize(array, *size) for array, size in pairs]
        planes = (torch.from_numpy(array).permute(2, 0, 1) for array in sized)
        return [last_axis(from_network(each[None], target))[0] for each in planes]

    def to_network(self, batch: Pixels, source: Contract) -> Tensor:
        """Stored pixels (N, H, W, C) as float32 (N, C, H, W) on the device.

        Only 8-bit values are converted there, since some devices lack wider types.
        """
        inputs = torch.from_numpy(np.require(batch, requirements=["C", "W"])).permute(0, 3, 1, 2)
        if inputs.dtype == torch.uint8:
            return to_network(inputs.to(self.device), source)
        return to_network(inputs, source).to(self.device)
