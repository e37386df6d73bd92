"""Sky, mountains, hills, fields, and the outlines of paths and rivers of the built-in landscapes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from twofold.seasons.canvas import RASTER, Canvas, Light, Material, Point, enlarge, mix, rgb, rgba

GRID = (np.arange(RASTER) + 0.5) / RASTER
ROCK = Material(rgb("717a92"), rgb("9ba7c0"))
FACE = Material(rgb("8d93a6"), rgb("d6deec"))
CAP = Material(rgb("f6f8fc"), rgb("f6f8fc"))


def paint_sky(light: Light, rng: Generator, side: int) -> Image.Image:
    """Gradient, sun or moon with its glow, and clouds, (side, side)."""
    y = GRID[:, None, None]
    up, down = np.clip(y / 0.3, 0, 1), np.clip((y - 0.3) / 0.28, 0, 1)
    field = mix(mix(light.top, light.middle, up), light.horizon, down)
    away = np.hypot(GRID[None, :] - light.x, GRID[:, None] - light.y)[..., None]
    field = mix(field, light.disc, 0.62 * np.exp(-away / 0.13) + 0.2 * np.exp(-away / 0.4))
    sky = enlarge(field, side, (0, 0, side, side))
    radius = rng.uniform(0.035, 0.06) * side
    box = [light.x * side - radius, light.y * side - radius, light.x * side + radius, light.y * side + radius]
    ImageDraw.Draw(sky).ellipse(box, fill=rgba(mix(light.disc, np.ones(3), 0.45))[:3])
    for _ in range(int(rng.integers(0, 6))):
        _cloud(sky, light, rng)
    return sky


def _cloud(sky: Image.Image, light: Light, rng: Generator) -> None:
    """A cloud with a flat bottom: its shaded body, then its lit top, moved towards the sun."""
    width = rng.uniform(0.1, 0.24)
    x, y = rng.uniform(0.02, 0.98), rng.uniform(0.06, 0.34)
    puffs = [(rng.uniform(-1, 1), rng.uniform(0.35, 1)) for _ in range(7)]
    body = mix(mix(light.middle, light.horizon, 0.5), light.ambient, 0.25)
    crest = mix(light.horizon, np.ones(3), 0.55 * (1 - light.dark))
    side, corner = sky.width, (round((x - 1.2 * width) * sky.width), round((y - 0.6 * width) * sky.width))
    for colour, lift, scale, strength in ((body, 0.0, 1.0, 0.75), (crest, 0.16, 0.82, 0.85)):
        mask = Image.new("L", (round(2.4 * width * side), round(0.9 * width * side)))
        for across, size in puffs:
            reach = width * 0.42 * scale * size * (1.15 - abs(across))
            middle = x + width * 0.62 * across + light.side * lift * width * 0.25
            high = y - lift * width * 0.5
            box = (middle - reach, high - reach * 0.85, middle + reach, high + reach * 0.85)
            local = [part * side - corner[k % 2] for k, part in enumerate(box)]
            ImageDraw.Draw(mask).ellipse(local, fill=round(255 * strength))
        floor = round((y + width * 0.1 * (1 - lift)) * side) - corner[1]
        mask.paste(0, (0, floor, *mask.size))
        sky.paste(rgba(colour)[:3], corner, mask.filter(ImageFilter.BoxBlur(side / 220)))


def mountain(canvas: Canvas, light: Light, rng: Generator, x: float, foot: float, high: float) -> None:
    """A jagged peak with one face in the sun and a white cap."""
    wide = high * rng.uniform(0.95, 1.5)
    left = _ragged(rng, (x - wide, foot), (x, foot - high), (0, 0.06 * high))
    right = _ragged(rng, (x, foot - high), (x + wide, foot), (0, 0.06 * high))
    far = (0.55 + 0.7 * np.clip((GRID - foot + high) / high, 0, 1) ** 1.5)[:, None]
    spine = _ragged(rng, (x, foot - high), (x + rng.uniform(-0.25, 0.25) * wide, foot), (0.09 * wide, 0))
    canvas.fill(left + right[1:], ROCK, light, np.full((1, 1), 0.25), far)
    face = [*left, *spine[::-1]] if light.side < 0 else [*right, *spine[::-1]]
    canvas.fill(face, FACE, light, np.full((1, 1), 0.95), far)
    for edge, side in ((left, -1), (right[::-1], 1)):
        line = [point for point in edge if point[1] < foot - 0.64 * high]
        down = [point for point in spine if point[1] < foot - 0.55 * high]
        if len(line) > 1 and len(down) > 1:
            (x0, y0), (x1, y1) = line[0], down[-1]
            teeth = ((0.25, 1), (0.5, -1), (0.75, 1))
            hem = [(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t + 0.07 * high * sign) for t, sign in teeth]
            shade = np.full((1, 1), 0.95 if side == light.side else 0.35)
            canvas.fill([*line, *down, *hem[::-1]], CAP, light, shade, far)


def _ragged(rng: Generator, start: Point, end: Point, stray: Point) -> list[Point]:
    """A jagged line that leaves the straight one by up to `stray` across and down."""
    steps = np.linspace(0, 1, 11)[:, None]
    offsets = rng.uniform(-1, 1, (11, 2)) * stray * (steps > 0) * (steps < 1)
    line = np.array(start) + (np.array(end) - start) * steps + offsets
    return [(float(x), float(y)) for x, y in line]


@dataclass(frozen=True)
class Hill:
    """One layer of ground: y = crest(x) and everything below it; `place` puts things on its slope."""

    base: float
    waves: tuple[tuple[float, float, float], ...]  # (height, frequency, phase)
    near: float  # 0 the farthest .. 1 where we stand
    room: float  # how far below its crest it is visible

    @property
    def distance(self) -> float:
        return 0.95 * (1 - self.near) ** 1.2

    def crest(self, x: float) -> float:
        return self.base + sum(a * math.sin(math.tau * (f * x + p)) for a, f, p in self.waves)

    def slope(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        slopes = (math.tau * f * a * np.cos(math.tau * (f * x + p)) for a, f, p in self.waves)
        return sum(slopes, np.zeros_like(x))

    def place(self, u: float, v: float) -> Point:
        """`v` below the crest at `u`; nearer ground spreads away from the middle, as seen."""
        x = 0.5 + (u - 0.5) * (1 + 1.2 * v)
        return x, self.crest(x) + v

    def patch(self, u0: float, u1: float, v0: float, v1: float) -> list[Point]:
        """A field between two lines along the slope and two across it."""
        along, across = np.linspace(u0, u1, 7), np.linspace(v0, v1, 4)
        return [
            *(self.place(float(u), v0) for u in along),
            *(self.place(u1, float(v)) for v in across[1:]),
            *(self.place(float(u), v1) for u in along[::-1]),
            *(self.place(u0, float(v)) for v in across[::-1][1:]),
        ]


def paint_hill(canvas: Canvas, light: Light, hill: Hill, ground: Material) -> None:
    """Lit where the slope faces the sun and near the crest; misty towards its foot when far."""
    xs = np.linspace(-0.02, 1.02, 105)
    outline = [(float(x), hill.crest(float(x))) for x in xs]
    crest = np.array([hill.crest(float(x)) for x in GRID])
    depth = np.clip(GRID[:, None] - crest[None, :], -0.1, 1)
    facing = light.side * np.clip(hill.slope(GRID) * 1.3, -0.45, 0.45)
    roll = np.sin(math.tau * (1.6 * GRID[None, :] + 5 * depth + hill.waves[0][2]))
    shade = 0.76 + facing[None, :] * np.exp(-np.abs(depth) / 0.16) + 0.3 * np.exp(-np.abs(depth) / 0.05)
    shade = np.clip(shade - 0.3 * np.clip(depth, 0, 0.5) + 0.07 * roll, 0, 1)
    far = hill.distance * (0.8 + 1.5 * np.clip(depth, 0, 0.25))
    canvas.fill([*outline, (1.02, 1.02), (-0.02, 1.02)], ground, light, shade, far)


def furrows(canvas: Canvas, light: Light, hill: Hill, u: Point, v: Point, n: int) -> None:
    """Rows along the slope: earth in summer, soft shadow on the snow."""
    for k in range(n):
        at = u[0] + (u[1] - u[0]) * (k + 0.5) / n
        line = [hill.place(at, float(part)) for part in np.linspace(*v, 4)]
        wide = (u[1] - u[0]) / n * 0.4
        canvas.line(line, wide, light.shadow(hill.distance, 0.16))


def ribbon(hill: Hill, u: Point, bend: float, wide: tuple[float, float], low: float) -> list[Point]:
    """The outline of a path or river from the crest at u[0] to `low` below it at u[1]; it widens."""
    left, right = [], []
    for t in np.linspace(0, 1, 24):
        along = u[0] + (u[1] - u[0]) * t + bend * math.sin(math.tau * t**0.7) * (0.25 + t)
        x, y = hill.place(along, low * t**1.3)
        half = (wide[0] + (wide[1] - wide[0]) * t**1.6) / 2
        left.append((x - half, y))
        right.append((x + half, y))
    return left + right[::-1]
