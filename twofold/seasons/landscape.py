"""Compose one landscape and paint it in summer and in winter.

The change of season is local: snow on ground, roofs and branches, bare crowns, ice; sky and walls stay.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from twofold.formats.contract import Pixels
from twofold.randomness import generator
from twofold.seasons import figures, terrain
from twofold.seasons.canvas import RGB, Canvas, Light, Point, constant, draw_light, mix, rgb, rgba, snowed

# Roofs are red and walls never are, and walls are no lighter than roofs: what turns white is known by its colour.
WALLS = ("8a6248", "77583f", "6d8090", "a07a58", "857b6e", "b08c5c", "66786c", "8f7f94")
ROOFS = ("c4553a", "b84a38", "cf6a40", "c0503f", "d07448", "a8452f")
CROPS = ("d9bd62", "b59a5a", "9cc45a", "9a7fae", "c8c872", "7fa848")
CROWNS = {"round": figures.ROUND, "slim": figures.SLIM, "oval": figures.OVAL}


def draw(seed: int, size: int, bits: int = 8) -> tuple[Pixels, Pixels]:
    """Landscape number `seed` in summer and in winter, (size, size, 3) each; every size shows the same landscape.

    Args:
        bits: of a value, 8 to 16; over 8 the pictures are uint16.
    """
    factor = oversampling(size)
    rng = generator("seasons", seed)
    light = draw_light(rng)
    canvas = Canvas(terrain.paint_sky(light, rng, size * factor))
    _Landscape(canvas, light, rng).paint()
    return canvas.reduced(factor, bits)


def oversampling(size: int) -> int:
    """How many raster lines are painted for each line of the picture; averaging them makes edges smooth."""
    return 4 if size <= 64 else 3 if size <= 256 else 2


_Figure = tuple[Point, Callable[[], None]]  # where it stands, and how it is painted


class _Landscape:
    """Composes one landscape from far to near; every choice is drawn from `rng` in order."""

    def __init__(self, canvas: Canvas, light: Light, rng: Generator) -> None:
        self.canvas, self.light, self.rng = canvas, light, rng
        self.grass = mix(mix(rgb("6fae4a"), rgb("aab656"), rng.random()), rgb("4f9a62"), 0.5 * rng.random())
        self.leaf = mix(rgb("4f9440"), rgb("86a63a"), rng.random())
        self.water = str(rng.choice(["lake", "river", "none"], p=[0.42, 0.23, 0.35]))
        self.village = rng.random() < 0.85
        self.path_ends = rng.uniform(0.3, 0.7, 2)  # of the path or river: at the nearest crest, at the bottom

    def paint(self) -> None:
        rng = self.rng
        horizon = rng.uniform(0.4, 0.52)
        if rng.random() < 0.6:
            self.mountains(horizon + 0.06)
        count = int(rng.integers(3, 5))
        lake = self.water == "lake"
        last = rng.uniform(0.84, 0.92) if lake else rng.uniform(0.7, 0.8)
        shore = rng.uniform(0.6, 0.66)
        bases = list(np.linspace(horizon, shore - 0.06 if lake else last, count - lake)) + [last] * lake
        for k, base in enumerate(bases):
            near, front = k / (count - 1), k == count - 1
            if lake and front:
                self.lake(shore, last + 0.06)
            if front:
                room = min(0.3, 0.96 - base)
            else:
                room = shore - base - 0.012 if lake and k == count - 2 else bases[k + 1] - base + 0.03
            self.furnish(self.hill(base, near, room, calm=lake and k >= count - 2))

    def mountains(self, foot: float) -> None:
        for x in self.rng.uniform(-0.1, 1.1, self.rng.integers(2, 6)):
            terrain.mountain(self.canvas, self.light, self.rng, float(x), foot, self.rng.uniform(0.14, 0.3))

    def hill(self, base: float, near: float, room: float, calm: bool) -> terrain.Hill:
        rng = self.rng
        tall = 0.01 if calm else rng.uniform(0.018, 0.05)
        waves = tuple((tall / f, f * rng.uniform(0.7, 1.2), rng.random()) for f in (1, 1.9, 3.7))
        hill = terrain.Hill(float(base), waves, near, room)
        terrain.paint_hill(self.canvas, self.light, hill, snowed(self.grass * rng.uniform(0.93, 1.05), 0.93))
        return hill

    def lake(self, shore: float, low: float) -> None:
        rng, light = self.rng, self.light
        phase, xs = rng.random(2) * 6, np.linspace(0, 1, 40)
        wave = shore + 0.006 * np.sin(9 * xs + phase[0]) + 0.004 * np.sin(23 * xs + phase[1])
        edge = [(float(x), float(y)) for x, y in zip(xs, wave, strict=True)]
        self.canvas.mirror([*edge, (1, low), (0, low)], shore, self.surface(), (0.5, 0.34))
        glint = (rgba(light.disc, 0.4), rgba(light.disc, 0.2))
        for k in range(9):
            y = shore + 0.02 + (low - shore) * (k / 9) ** 1.2
            x, wide = light.x + rng.uniform(-0.02, 0.02), rng.uniform(0.01, 0.05) * (0.6 + k / 9)
            self.canvas.line([(x - wide, y), (x + wide, y)], 0.005, glint)

    def surface(self) -> tuple[RGB, RGB]:
        """What water shows besides its mirror image: its own colour, or ice."""
        light = self.light
        water = mix(light.middle, rgb("3586b0"), 0.62) * mix(light.ambient + light.direct, np.ones(3), 0.4)
        return water, mix(rgb("bcdcf0") * (light.ambient + 0.9 * light.direct), light.middle, 0.12)

    def furnish(self, hill: terrain.Hill) -> None:
        """Fields first, then everything that stands, from far to near."""
        rng, near = self.rng, hill.near
        if near == 1 and self.water == "river":
            self.river(hill)
        elif near > 0.2 and self.water != "lake" and rng.random() < 0.75:
            self.fields(hill)
        if near == 1 and self.water == "none" and rng.random() < 0.75:
            self.path(hill)
        if near == 1:
            self.tufts(hill)
        things = [*self.forest(hill), *self.houses_and_trees(hill)]
        if near == 1 and rng.random() < 0.5:
            things.append(self.fence(hill))
        for _, paint in sorted(things, key=lambda thing: thing[0][1]):
            paint()

    def fence(self, hill: terrain.Hill) -> _Figure:
        u, v = (self.rng.uniform(-0.1, 0.3), self.rng.uniform(0.4, 0.9)), self.rng.uniform(0.07, 0.16)
        foot = hill.place((u[0] + u[1]) / 2, v)
        return foot, lambda: figures.fence(self.canvas, self.light, hill, u, v, 0.045)

    def forest(self, hill: terrain.Hill) -> list[_Figure]:
        rng, scale = self.rng, 0.07 + 0.115 * hill.near**1.5
        if hill.near > 0.9 or rng.random() < 0.4:
            return []
        span = np.arange(rng.uniform(-0.1, 0.5), rng.uniform(0.5, 1.1), 0.5 * scale)
        kept = span[rng.random(len(span)) < 0.8]
        feet = [hill.place(u + rng.normal(0, 0.004), 0.004) for u in kept]
        return [self.tree(foot, "fir", scale * rng.uniform(0.7, 1.15), hill) for foot in feet]

    def houses_and_trees(self, hill: terrain.Hill) -> list[_Figure]:
        """Houses and trees, each in its own stretch of the slope."""
        rng, near = self.rng, hill.near
        if near < 0.2:
            return []
        things, scale = [], 0.07 + 0.115 * near**1.5
        slots = rng.permutation(7)
        if near == 1 and self.water != "lake":
            slots = slots[np.abs((slots + 0.5) / 7 - self.path_ends.mean()) > 0.18]
        houses = int(rng.integers(1, 4)) if self.village and near > 0.4 else 0
        for k, slot in enumerate(slots[: houses + int(rng.integers(2, 5))]):
            depth = min(0.16 * near, hill.room - 0.01) * rng.random() ** 1.5
            foot = hill.place((slot + rng.uniform(0.2, 0.8)) / 7, 0.01 + depth)
            size = scale * (1 + 3 * depth)
            if k < houses:
                things.append(self.house(foot, size * rng.uniform(0.55, 0.75), near, church=k == 2))
            else:
                kind = str(rng.choice(["round", "slim", "oval", "fir"], p=[0.3, 0.15, 0.2, 0.35]))
                things.append(self.tree(foot, kind, size * rng.uniform(0.85, 1.35), hill))
        return things

    def tree(self, foot: Point, kind: str, high: float, hill: terrain.Hill) -> _Figure:
        canvas, light, far = self.canvas, self.light, hill.distance
        leaf = mix(self.leaf, rgb("a8b545"), self.rng.uniform(0, 0.5))

        def paint() -> None:
            figures.shadow(canvas, light, *foot, 0.6 * high, 0.22 * high, bare=kind != "fir")
            if kind == "fir":
                figures.conifer(canvas, light, *foot, high, far)
            else:
                figures.deciduous(canvas, light, *foot, high, far, leaf, CROWNS[kind])

        return foot, paint

    def house(self, foot: Point, wide: float, near: float, church: bool) -> _Figure:
        rng, canvas, light = self.rng, self.canvas, self.light
        wall, roof = rgb(str(rng.choice(WALLS))), rgb(str(rng.choice(ROOFS)))
        turn = int(rng.choice([-1, 1]))
        if near == 1:  # keep clear of the path or river
            turn = 1 if foot[0] > self.path_ends.mean() else -1

        def paint() -> None:
            figures.shadow(canvas, light, *foot, wide, wide * 1.2, bare=False)
            figures.house(canvas, light, foot, wide, wall, roof, turn)
            if church:
                figures.tower(canvas, light, (foot[0] - turn * 0.1 * wide, foot[1]), 0.62 * wide, wall, roof)

        return foot, paint

    def fields(self, hill: terrain.Hill) -> None:
        rng, light, far = self.rng, self.light, hill.distance
        u = rng.uniform(-0.2, 0.4)
        for _ in range(rng.integers(1, 5)):
            wide = rng.uniform(0.12, 0.3)
            v = (0.012, min(hill.room, 0.03 + rng.uniform(0.04, 0.2) * (0.4 + hill.near)))
            crop = snowed(rgb(str(rng.choice(CROPS))), 0.96)
            self.canvas.polygon(hill.patch(u, u + wide, *v), light.colours(crop, 0.75, far, 0.85))
            terrain.furrows(self.canvas, light, hill, (u, u + wide), v, int(rng.integers(5, 11)))
            u += wide + rng.choice([0.004, 0.1])

    def path(self, hill: terrain.Hill) -> None:
        u, bend = self.path_ends, self.rng.uniform(-0.12, 0.12)
        outline = terrain.ribbon(hill, (u[0], u[1]), bend, (0.008, 0.16), 1.04 - hill.base)
        self.canvas.polygon(outline, self.light.colours(snowed(rgb("a8845a"), 0.74), 0.62, 0))

    def river(self, hill: terrain.Hill) -> None:
        u, bend, low = self.path_ends, self.rng.uniform(-0.12, 0.12), 1.04 - hill.base
        bank = terrain.ribbon(hill, (u[0], u[1]), bend, (0.016, 0.4), low)
        self.canvas.polygon(bank, self.light.colours(snowed(self.grass * 0.75, 0.82), 0.5, 0))
        water, ice = self.surface()
        stream = terrain.ribbon(hill, (u[0], u[1]), bend, (0.01, 0.35), low)
        self.canvas.polygon(stream, (rgba(water), rgba(ice)))

    def tufts(self, hill: terrain.Hill) -> None:
        """Grass and flowers in loose patches; dry stalks stay in the snow."""
        rng, light = self.rng, self.light
        stalk = light.colours(constant(rgb("8d8450")), 0.6, 0)
        for _ in range(rng.integers(0, 5)):
            u0, v0 = rng.random(), rng.uniform(0.03, max(0.05, 0.9 - hill.base))
            bloom = snowed(rgb(str(rng.choice(["f5e04f", "f6f2ea", "f09ab4", "8f78d8"]))), 0.8)
            for _ in range(9):
                x, y = hill.place(u0 + rng.normal(0, 0.05), abs(v0 + rng.normal(0, 0.015)))
                self.canvas.line([(x, y), (x + 0.002, y - 0.014)], 0.003, stalk)
                self.canvas.ellipse(x + 0.002, y - 0.016, 0.005, 0.004, light.colours(bloom, 0.9, 0))
