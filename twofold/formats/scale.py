"""The geometry of a run: the size in pixels at which the network sees an image, in training and in translation."""

from typing import NamedTuple

from twofold.data.settings import ResizeName


class Geometry(NamedTuple):
    """How images are scaled.

    Attributes:
        resize: "shortest" scales the shorter side to `load_size`; "resize-and-crop" squashes to a square of
            `load_size`; "scale-width" and "scale-width-and-crop" scale the width to it; "crop" and "none" keep the
            image's own pixels.
        load_size: in pixels.
        size: side of the training crops in pixels.
    """

    resize: ResizeName
    load_size: int
    size: int

    def loaded(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) in pixels at which training loads an image, before it cuts a crop.

        Where a crop follows, an image that would be smaller than the crop is scaled until it holds one.
        """
        load, size = self.load_size, self.size
        match self.resize:
            case "resize-and-crop":
                return load, load
            case "shortest":
                return _scaled(width, height, load / min(width, height), 1)
            case "scale-width-and-crop":
                return _scaled(width, height, max(load / width, size / height), size)
            case "scale-width":
                return _scaled(width, height, load / width, 1)
            case "crop" | "none":
                return height, width


def _scaled(width: int, height: int, scale: float, least: int) -> tuple[int, int]:
    return max(least, round(height * scale)), max(least, round(width * scale))
