"""What a user can set of the data."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

ResizeName = Literal["resize-and-crop", "scale-width-and-crop", "crop", "none"]
DirectionName = Literal["ab", "ba"]

AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
"""A file or folder, the same from wherever a run goes on."""


class DataSettings(BaseModel):
    """Which images a run sees, and how they are loaded, cropped and varied."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = Field(
        default=256, ge=1, description="Side of the square crop that the networks see, in pixels."
    )
    load_size: int | None = Field(
        default=None,
        ge=1,
        description="Size to load at before the crop, in pixels; round(size x 286/256) if not given.",
    )
    resize: ResizeName = Field(
        default="resize-and-crop",
        description="Squash to a square and crop, scale the width and crop, only crop, or use whole images.",
    )
    flip: bool = Field(default=True, description="Mirror half of the training crops left to right.")
    jitter: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Strength of random brightness, contrast and saturation; 0 turns it off.",
    )
    paired: bool = Field(
        default=False, description="Whether each image of A belongs to one of B, its right translation."
    )
    pairs: str | None = Field(
        default=None,
        description="How one folder holds pairs: `halves` of each image, or two suffixes such as jpg:png, the "
        "input first; found out if not given.",
    )
    direction: DirectionName = Field(
        default="ab", description="ba exchanges what is given as A and B, so input and output of pairs."
    )
    lab: bool = Field(
        default=False,
        description="Colourisation: A is the lightness of its images, B the colour of its own (Lab).",
    )
    labels_a: bool | None = Field(
        default=None,
        description="Whether A are label maps, resized without mixing colours; found out if not given.",
    )
    labels_b: bool | None = Field(default=None, description="Whether B are label maps; as for A.")
    masks_a: AbsolutePath | None = Field(
        default=None,
        description="Folder of grey masks named as the images of A; what is over 127 is to be kept.",
    )
    masks_b: AbsolutePath | None = Field(default=None, description="Folder of masks of B; as for A.")
    channels_a: int | None = Field(
        default=None,
        ge=1,
        description="Channels of A; found out if not given: 1 where all is grey, N for .npy, else 3.",
    )
    channels_b: int | None = Field(
        default=None, ge=1, description="Channels of B; found out if not given, as for A."
    )
    val_a: AbsolutePath | None = Field(
        default=None, description="Folder of held-out images of A, or of pairs, in place of drawing some."
    )
    val_b: AbsolutePath | None = Field(
        default=None, description="Folder of held-out images of B, in place of drawing some."
    )
    hold_out: bool = Field(
        default=True,
        description="Keep 5 % of each folder (8 to 100, if it has 40) out of training to judge by.",
    )
    cache: bool = Field(default=True, description="Keep the decoded images in a cache folder, memory-mapped.")
    cache_dir: AbsolutePath | None = Field(
        default=None,
        description="The cache folder; TWOFOLD_CACHE, or twofold in the user's cache folder, if not given.",
    )
    cache_limit_gb: float = Field(
        default=20.0,
        ge=0,
        description="Most that the cache folder may hold, in GB; older caches make room for newer.",
    )
    workers: int = Field(
        default=2, ge=1, description="Threads that prepare the next batches while one trains."
    )

    @property
    def loaded(self) -> int:
        """The load size in pixels, as given or derived from the crop."""
        return self.load_size or round(self.size * 286 / 256)

    @field_validator("pairs")
    @classmethod
    def _known_kind(cls, pairs: str | None) -> str | None:
        if pairs is not None and not re.fullmatch(r"halves|[A-Za-z0-9]+:[A-Za-z0-9]+", pairs):
            raise ValueError(
                f"{pairs!r} is neither `halves` nor two suffixes, the input first, such as jpg:png"
            )
        return pairs

    def agree(self) -> None:
        """Raise ValueError where two settings contradict each other.

        Asked of a whole config alone: what a command line says is a part, and right only beside the rest.
        """
        if self.loaded < self.size and self.resize in ("resize-and-crop", "scale-width-and-crop"):
            raise ValueError(
                f"load_size {self.loaded} is under the crop, {self.size}; make it at least as large"
            )
        alone = self.val_b is not None or not (self.paired or self.lab)
        if (self.val_a is None) != (self.val_b is None) and alone:
            raise ValueError(
                "val_a and val_b go together: --val takes two folders, of A and of B; one alone is for pairs"
            )
        if self.pairs and self.lab:
            raise ValueError(
                "lab makes the pairs itself, of each image's lightness and colour; leave out pairs"
            )
        if self.lab and self.direction == "ba":
            raise ValueError(
                "lab goes from lightness to colour; leave out direction, or exchange the folders"
            )
        if self.lab and self.jitter:
            raise ValueError("jitter is for colours as they are seen, lab has none of those; leave out one")
