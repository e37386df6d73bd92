"""Colours, light, and a canvas that holds a landscape in both seasons.

Coordinates are fractions of the picture's side, x to the right, y down; colours are float triples in [0, 1].
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from twofold.formats.contract import Pixels

RGB = NDArray[np.float64]  # (3,), or (..., 3) for a field of colours
Point = tuple[float, float]
RGBA = tuple[int, int, int, int]
Colours = tuple[RGBA | None, RGBA | None]  # one for each season; None paints nothing

RASTER = 96
"""Soft shading is computed on a RASTER x RASTER raster at every size, so that every size shows one scene."""


def rgb(text: str) -> RGB:
    """Six hexadecimal digits to a colour."""
    return np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)]) / 255


def mix(a: RGB, b: RGB, t: float | NDArray[np.float64]) -> RGB:
    return a + (b - a) * t


SNOW = rgb("f1f6ff")


class Material(NamedTuple):
    """The colour of a thing in each season; None if it is not visible then."""

    summer: RGB | None
    winter: RGB | None


def constant(colour: RGB) -> Material:
    """The same in both seasons."""
    return Material(colour, colour)


def snowed(colour: RGB, cover: float = 0.9) -> Material:
    """Under snow in winter; some colour shows through, so that summer can be guessed from winter."""
    return Material(colour, mix(colour, SNOW, cover))


class Light(NamedTuple):
    """The light at one hour of the day, the same in both seasons of a scene."""

    top: RGB
    middle: RGB
    horizon: RGB
    disc: RGB  # the sun or moon itself
    direct: RGB
    ambient: RGB
    dark: float  # 0 day .. 1 night; windows glow
    x: float  # where the sun stands
    y: float

    @property
    def side(self) -> int:
        """-1 where light comes from the left, 1 from the right."""
        return -1 if self.x < 0.5 else 1

    def lit(self, colour: RGB, shade: float | NDArray, distance: float | NDArray) -> RGB:
        """`colour` as it looks: `shade` 0 (turned away) .. 1 (facing the sun), `distance` 0 (here) .. 1 (far)."""
        lit = colour * (self.ambient + self.direct * shade)
        return mix(lit, mix(self.horizon, self.middle, 0.85), 1 - np.exp(-0.8 * distance))

    def colours(self, material: Material, shade: float, distance: float, alpha: float = 1.0) -> Colours:
        """A material's colour in each season."""
        summer, winter = (c if c is None else rgba(self.lit(c, shade, distance), alpha) for c in material)
        return summer, winter

    def shadow(self, distance: float, alpha: float) -> Colours:
        """What a shadow lays over the ground."""
        return self.colours(constant(rgb("141c3c")), 0.5, distance, alpha)


def rgba(colour: RGB, alpha: float = 1.0) -> RGBA:
    """A colour in 8 bits, for Pillow."""
    red, green, blue = (min(255, max(0, round(255 * float(part)))) for part in colour)
    return red, green, blue, round(255 * alpha)


# The hours: top, middle, horizon of the sky, disc, direct and ambient light, darkness, odds.
HOURS = (
    ("4a97d8", "8fc6ec", "d8ecf4", "fff6dc", "5c5850", "9ea7b8", 0.0, 0.18),  # noon
    ("78b2de", "b8d9e8", "f9e8cc", "fff1cf", "645b4d", "9aa2b2", 0.0, 0.18),  # morning
    ("6a94c4", "dcc0a0", "ffd694", "fff0c0", "6a5438", "9696ac", 0.1, 0.15),  # late afternoon
    ("5b5a9a", "b57fa2", "f9aa86", "ffd9a8", "8a5848", "656290", 0.55, 0.11),  # dusk
    ("98abbd", "bccad4", "dfe4e4", "fbf8ec", "3c3a36", "aeb3ba", 0.0, 0.09),  # overcast
    ("8496cc", "dab2c2", "fbdac6", "fff0dc", "725848", "8688a0", 0.1, 0.12),  # first light
    ("4fa0ae", "9fd2cc", "eef2d8", "fffbe2", "605c48", "929ea2", 0.0, 0.1),  # clear after rain
    ("24345c", "4a6090", "8f9ec4", "f3f0dc", "3c4258", "4e5a84", 0.9, 0.07),  # moonlight
)


def draw_light(rng: Generator) -> Light:
    """One of the hours with a little of another, and a place for the sun left or right of the middle."""
    one, other = (HOURS[k] for k in rng.choice(len(HOURS), 2, p=[hour[-1] for hour in HOURS]))
    t = float(rng.uniform(0, 0.3))
    colours = [mix(rgb(str(a)), rgb(str(b)), t) for a, b in zip(one[:6], other[:6], strict=True)]
    dark = float(one[6]) * (1 - t) + float(other[6]) * t
    x, left = float(rng.uniform(0.08, 0.36)), rng.random() < 0.5
    return Light(*colours, dark=dark, x=x if left else 1 - x, y=float(rng.uniform(0.1, 0.34)))


class Canvas:
    """A summer and a winter picture, painted with the same strokes."""

    def __init__(self, sky: Image.Image) -> None:
        self.side = sky.width
        self.pictures = (sky, sky.copy())
        self._pens = tuple(ImageDraw.Draw(picture, "RGBA") for picture in self.pictures)

    def polygon(self, points: Sequence[Point], colours: Colours) -> None:
        flat = self._scaled(points)
        for pen, colour in zip(self._pens, colours, strict=True):
            if colour:
                pen.polygon(flat, fill=colour)

    def line(self, points: Sequence[Point], width: float, colours: Colours) -> None:
        """A stroke `width` wide; finer than a raster line it fades rather than staying one line wide."""
        flat, pixels = self._scaled(points), width * self.side
        for pen, colour in zip(self._pens, colours, strict=True):
            if colour:
                faded = (*colour[:3], round(colour[3] * min(1.0, pixels)))
                pen.line(flat, fill=faded, width=max(1, round(pixels)))

    def ellipse(self, x: float, y: float, across: float, down: float, colours: Colours) -> None:
        """Centre and half axes."""
        box = [part * self.side for part in (x - across, y - down, x + across, y + down)]
        for pen, colour in zip(self._pens, colours, strict=True):
            if colour:
                pen.ellipse(box, fill=colour)

    def fill(
        self, outline: Sequence[Point], material: Material, light: Light, shade: NDArray, far: NDArray
    ) -> None:
        """A region under soft light; `shade` and `far` are fields over the canvas, (RASTER or 1, same)."""
        box, mask = self._mask(outline)
        for picture, colour in zip(self.pictures, material, strict=True):
            if colour is not None and mask is not None:
                field = light.lit(colour, shade[..., None], far[..., None])
                picture.paste(enlarge(field, self.side, box), box[:2], mask)

    def mirror(
        self, outline: Sequence[Point], shore: float, tints: tuple[RGB, RGB], clear: tuple[float, float]
    ) -> None:
        """Water below the line y = `shore`: the picture above it upside down, blended by `clear` into `tints`."""
        box, mask = self._mask(outline)
        if mask is None:
            return
        edge = round(shore * self.side)
        for picture, tint, strength in zip(self.pictures, tints, clear, strict=True):
            above = picture.crop((box[0], 2 * edge - box[3], box[2], 2 * edge - box[1]))
            image = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            surface = Image.new("RGB", image.size, rgba(tint)[:3])
            picture.paste(Image.blend(surface, image, strength), box[:2], mask)

    def reduced(self, factor: int, bits: int = 8) -> tuple[Pixels, Pixels]:
        """Both pictures, (side / factor, side / factor, 3).

        With over 8 bits the mean of the raster lines is kept as uint16 0..2^bits - 1, in place of rounding it to 8.
        """
        if bits == 8:
            summer, winter = (np.asarray(picture.reduce(factor)) for picture in self.pictures)
        else:
            summer, winter = (deep_mean(picture, factor, bits) for picture in self.pictures)
        return summer, winter

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.side, y * self.side) for x, y in points]

    def _mask(self, outline: Sequence[Point]) -> tuple[tuple[int, int, int, int], Image.Image | None]:
        flat = np.array(self._scaled(outline))
        low = np.clip(np.floor(flat.min(0)), 0, self.side).astype(int)
        high = np.clip(np.ceil(flat.max(0)) + 1, 0, self.side).astype(int)
        box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        if box[0] >= box[2] or box[1] >= box[3]:
            return box, None
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(mask).polygon([(x, y) for x, y in flat - low], fill=255)
        return box, mask


def deep_mean(picture: Image.Image, factor: int, bits: int) -> Pixels:
    side = picture.width // factor
    parts = np.asarray(picture).reshape(side, factor, side, factor, 3)
    return (parts.mean((1, 3)) * ((2**bits - 1) / 255)).round().astype(np.uint16)


def enlarge(field: RGB, side: int, box: tuple[int, int, int, int]) -> Image.Image:
    """The part `box` of a small field of colours, enlarged to a canvas of `side`, as a picture."""
    rows, columns = field.shape[:2]
    small = Image.fromarray((np.clip(field, 0, 1) * 255).round().astype(np.uint8))
    source = (box[0] * columns / side, box[1] * rows / side, box[2] * columns / side, box[3] * rows / side)
    return small.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC, box=source)
