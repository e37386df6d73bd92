"""Settings of the data."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

ResizeName = Literal["shortest", "resize-and-crop", "scale-width-and-crop", "scale-width", "crop", "none"]
DirectionName = Literal["ab", "ba"]
AugmentName = Literal["vertical", "turns"]


def separated(value: Any) -> Any:
    """A list that may also be written as `0 4095` or `vertical,turns`, also inside a list."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    if isinstance(value, list | tuple):
        return [part for each in value for part in (separated(each) if isinstance(each, str) else [each])]
    return value


def _as_range(value: Any) -> Any:
    """`0 4095` as two numbers; a list that is no range is refused in one sentence."""
    if value is None or value == "per-channel":
        return value
    parts = separated(value)
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"{_typed(parts)} is neither LOW HIGH nor per-channel") from None
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{_typed(parts)} is no range: LOW must be under HIGH, both finite")
    return low, high


def _typed(parts: Any) -> str:
    return " ".join(map(str, parts)) if isinstance(parts, list | tuple) else str(parts)


Range = Annotated[tuple[float, float] | Literal["per-channel"] | None, BeforeValidator(_as_range)]
"""The stored values that become -1 and 1 in the network; "per-channel": found for each channel apart."""

AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
"""A file or folder; stays the same if the run is resumed from another folder."""


class DataSettings(BaseModel):
    """Which images a run uses, and how they are loaded, cropped and augmented."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    size: int = Field(default=256, ge=1)
    """Height and width of the training crops, in pixels."""
    load_size: int | None = Field(default=None, ge=1)
    """Size to load at before the crop, in pixels. Default: 286/256 of size."""
    resize: ResizeName = "shortest"
    """Scale the shorter side, squash to a square, or scale the width, and crop; crop only; or whole images."""
    flip: bool = True
    """Mirror half of the training crops left to right."""
    augment: Annotated[tuple[AugmentName, ...], BeforeValidator(separated)] = ()
    """Also mirror top to bottom (vertical), and turn by 90°, 180° and 270° (turns), for images without an upright."""
    jitter: float = Field(default=0.0, ge=0, le=1)
    """Strength of random brightness, contrast and saturation, 0 to 1."""
    paired: bool = False
    """Each image of A belongs to one of B, its known answer."""
    pairs: str | None = None
    """Pairs in one folder: `halves`, or two suffixes such as jpg:png, the input first. Default: detected."""
    direction: DirectionName = "ab"
    """ba exchanges A and B, so the input and the output of pairs."""
    range_a: Range = None
    """Values of A that become -1 and 1: LOW HIGH, or per-channel. Default: found in the training set."""
    range_b: Range = None
    """Values of B, as for A."""
    layout: Literal["hwc", "chw"] = "hwc"
    """Axes of arrays in .npy and .npz files."""
    icc: Literal["srgb", "keep"] = "srgb"
    """Convert pictures with a colour profile to sRGB, or keep their values and their profile."""
    show_a: Annotated[tuple[int, ...], BeforeValidator(separated)] = ()
    """Channels of A that pictures show, one or three, counted from 0. Default: the first three, or the first."""
    show_b: Annotated[tuple[int, ...], BeforeValidator(separated)] = ()
    """Channels of B that pictures show, as for A."""
    lab: bool = False
    """Colourisation: A is the lightness of its images, B the colour (Lab)."""
    labels_a: bool = False
    """A is label maps: resized without mixing classes, and written with the classes of the training set alone."""
    labels_b: bool = False
    """B is label maps, as for A."""
    onehot: bool = False
    """Give the network one channel for each class of a label map, in place of spread ids."""
    masks_a: AbsolutePath | None = None
    """Folder of grey masks named as the images of A; pixels over 127 are kept as they are."""
    masks_b: AbsolutePath | None = None
    """Folder of masks of B, as for A."""
    channels_a: int | None = Field(default=None, ge=1)
    """Channels of A. Default: 1 if all is grey, those of .npy files, else 3."""
    channels_b: int | None = Field(default=None, ge=1)
    """Channels of B. Default: as for A."""
    val_a: AbsolutePath | None = None
    """Folder of held-out images of A, or of pairs. Default: see hold_out."""
    val_b: AbsolutePath | None = None
    """Folder of held-out images of B. Default: see hold_out."""
    val_paired: bool = False
    """Held-out images of equal names are answers to each other, so that PSNR chooses the best snapshot."""
    hold_out: bool = True
    """Without val_a, hold out 5 % of each folder (8 to 100 images, if it has 40)."""
    cache: bool = True
    """Keep the decoded images in a cache folder."""
    cache_dir: AbsolutePath | None = None
    """The cache folder. Default: $TWOFOLD_CACHE, else in the user's cache folder."""
    cache_limit_gb: float = Field(default=20.0, ge=0)
    """Largest size of the cache folder, in GB; the least used caches are removed."""
    workers: int = Field(default=2, ge=1)
    """Threads that prepare the next batches."""
    verify: Literal["hash", "size"] = "hash"
    """How a resumed run recognises its images: by content, or by size alone, for slow network disks."""

    @property
    def loaded(self) -> int:
        """The load size in pixels, as set or derived from the crop."""
        return self.load_size or round(self.size * 286 / 256)

    @property
    def crops(self) -> bool:
        """Whether training cuts squares of `size`; else it sees whole images."""
        return self.resize not in ("none", "scale-width")

    @field_validator("pairs")
    @classmethod
    def _known_kind(cls, pairs: str | None) -> str | None:
        if pairs is not None and not re.fullmatch(r"halves|[A-Za-z0-9]+:[A-Za-z0-9]+", pairs):
            raise ValueError(
                f"{pairs!r} is neither `halves` nor two suffixes, the input first, such as jpg:png"
            )
        return pairs

    @field_validator("show_a", "show_b")
    @classmethod
    def _one_or_three(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        if len(channels) not in (0, 1, 3) or min(channels, default=0) < 0:
            given = " ".join(map(str, channels))
            raise ValueError(f"name one or three channels, counted from 0, such as 3 2 1, not {given}")
        return channels

    def contradictions(self) -> Iterator[str]:
        """What is wrong where two settings contradict each other; for a whole config, not a part of it."""
        scaled = ("shortest", "resize-and-crop", "scale-width-and-crop")
        if self.loaded < self.size and self.resize in scaled:
            yield f"load_size {self.loaded} is under the crop, {self.size}; make it at least as large"
        both_needed = self.val_b is not None or not (self.paired or self.lab)
        if (self.val_a is None) != (self.val_b is None) and both_needed:
            yield "val_a and val_b go together: --val takes two folders, of A and B; one alone is for pairs"
        if self.pairs and self.lab:
            yield "lab pairs the lightness and the colour of each image; leave out pairs"
        if self.onehot and not (self.labels_a or self.labels_b):
            yield "onehot is for label maps; give labels_a or labels_b too"
        if self.lab and (self.labels_a or self.labels_b):
            yield "lab images are no label maps; leave out labels_a and labels_b"
        if self.lab and self.direction == "ba":
            yield "lab goes from lightness to colour; leave out direction, or exchange the folders"
        if self.lab and (self.range_a is not None or self.range_b is not None):
            yield "lab images have a range of their own; leave out range_a and range_b"
        for side in "ab":
            if getattr(self, f"labels_{side}") and getattr(self, f"range_{side}") is not None:
                yield f"label maps have classes, not a range; leave out range_{side} or labels_{side}"
        if "turns" in self.augment and not self.crops:
            yield f"turns are for square crops; leave them out, or leave out resize {self.resize}"
        if self.lab and self.jitter:
            yield "jitter is for colours, which lab images do not have; leave out one"
