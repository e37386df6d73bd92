"""Trees, houses and fences of the built-in landscapes.

Each season hints at the other: snow lies on the edges lit in summer, bare branches follow the outline of the crown.
"""

import math

from twofold.seasons.canvas import RGB, Canvas, Light, Material, Point, constant, mix, rgb, rgba, snowed
from twofold.seasons.terrain import Hill

TRUNK = constant(rgb("6b4f3c"))
BIRCH = constant(rgb("d9d4c8"))
TWIGS = Material(None, rgb("8d7666"))
FROST = Material(None, rgb("f1f4f9"))
FIR = Material(rgb("2f6a4a"), rgb("3b6350"))
FIR_TOP = Material(rgb("6aa558"), rgb("f3f6fb"))
WOOD = constant(rgb("8a6748"))
RAIL = Material(rgb("b08a60"), rgb("f4f6fa"))
PANE = rgb("3d4d63")


def shadow(canvas: Canvas, light: Light, x: float, y: float, long: float, wide: float, bare: bool) -> None:
    """The shadow of a tree or house, `wide` at (x, y), away from the sun; lighter in winter if the crown is bare."""
    colours = light.shadow(0, 0.3 * (1 - 0.6 * light.dark))
    if bare and colours[1]:
        colours = colours[0], (*colours[1][:3], round(colours[1][3] * 0.5))
    away = -light.side * long
    tip, low = x + away, y + abs(away) * 0.3
    corners = [(x - wide / 2, y), (x + wide / 2, y), (tip + wide * 0.6, low), (tip - wide * 0.6, low)]
    canvas.polygon(corners, colours)


def conifer(canvas: Canvas, light: Light, x: float, y: float, high: float, far: float) -> None:
    """A fir: five drooping tiers, with snow on their lit upper sides."""
    sun, tip_high = light.side, 0.3 * high
    dark, lit = light.colours(FIR, 0.15, far), light.colours(FIR, 0.75, far)
    caps = [(s, light.colours(FIR_TOP, 0.8 if s == sun else 0.25, far)) for s in (-1, 1)]
    canvas.polygon(_bar(x, y + 0.01 * high, 0.07 * high, 0.15 * high), light.colours(TRUNK, 0.3, far))
    for k in range(5):
        foot, half = y - high * (0.08 + 0.165 * k), high * (0.25 - 0.043 * k)
        tip = (x, foot - tip_high)
        lobes = [(x + half * s, foot + high * (0.02 if i % 2 else -0.015)) for i, s in enumerate(_LOBES)]
        canvas.polygon([tip, *lobes], dark)
        face = [(0.8, 0.02), (0.3, 0.0), (-0.1, 0.0)]
        canvas.polygon([tip, *((x + sun * half * a, foot - b * high) for a, b in face)], lit)
        for side, cap in caps:
            edge = [(0.72, 0.05), (0.3, 0.1), (0.0, 0.05)]
            canvas.polygon([tip, *((x + side * half * a, foot - b * high) for a, b in edge)], cap)


_LOBES = (-1.0, -0.62, -0.35, 0.0, 0.35, 0.62, 1.0)


def _bar(x: float, y: float, wide: float, high: float) -> list[Point]:
    return [(x - wide / 2, y), (x + wide / 2, y), (x + wide / 2, y - high), (x - wide / 2, y - high)]


Crown = tuple[tuple[float, float, float], ...]  # x, y up, radius, in tree heights from the foot
ROUND = (
    (0, 0.8, 0.17),
    (-0.15, 0.66, 0.16),
    (0.15, 0.66, 0.16),
    (0, 0.6, 0.2),
    (-0.1, 0.47, 0.13),
    (0.11, 0.48, 0.13),
)
SLIM = ((0, 0.9, 0.07), (0, 0.79, 0.1), (0, 0.67, 0.12), (0, 0.54, 0.125), (0, 0.41, 0.115), (0, 0.3, 0.08))
OVAL = (
    (0, 0.86, 0.1),
    (-0.06, 0.73, 0.13),
    (0.07, 0.68, 0.13),
    (-0.06, 0.54, 0.14),
    (0.06, 0.48, 0.13),
    (0, 0.38, 0.1),
)


def deciduous(
    canvas: Canvas, light: Light, x: float, y: float, high: float, far: float, leaf: RGB, kind: Crown
) -> None:
    """A crown of leaves in summer, the same crown of frosted twigs in winter."""
    bark = BIRCH if kind is OVAL else TRUNK
    canvas.polygon(_bar(x, y, 0.05 * high, 0.5 * high), light.colours(bark, 0.45, far))
    _branches(canvas, light, x, y, high, far, kind)
    crown = [(x + dx * high, y - dy * high, r * high) for dx, dy, r in kind]
    side = light.side
    shaded = light.colours(Material(leaf * 0.92, None), 0.1, far)
    leaves = light.colours(Material(leaf, None), 0.6, far)
    sunny = light.colours(Material(mix(leaf, rgb("ffe98a"), 0.18), None), 1.0, far)
    twigs, frost = light.colours(TWIGS, 0.5, far, 0.17), light.colours(FROST, 0.9, far, 0.3)
    for cx, cy, r in crown:
        canvas.ellipse(cx, cy, r, r, shaded)
        canvas.ellipse(cx, cy, r, r, twigs)
    for cx, cy, r in crown:
        canvas.ellipse(cx + side * 0.2 * r, cy - 0.16 * r, 0.8 * r, 0.8 * r, leaves)
    for cx, cy, r in crown:
        canvas.ellipse(cx + side * 0.36 * r, cy - 0.34 * r, 0.5 * r, 0.48 * r, sunny)
        canvas.ellipse(cx + side * 0.36 * r, cy - 0.34 * r, 0.5 * r, 0.48 * r, frost)


def _branches(canvas: Canvas, light: Light, x: float, y: float, high: float, far: float, kind: Crown) -> None:
    wood, frost = light.colours(Material(None, rgb("75604f")), 0.45, far), light.colours(FROST, 0.9, far)
    for dx, dy, r in kind:
        start = (x + 0.2 * dx * high, y - (dy - 1.3 * r) * high)
        end = (x + dx * high, y - dy * high)
        canvas.line([start, end], 0.03 * high, wood)
        for angle in (-1.0, -0.45, 0.1, 0.55, 1.05):
            twig = (end[0] + r * high * math.sin(angle) * 0.9, end[1] - r * high * math.cos(angle) * 0.9)
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
            canvas.line([middle if abs(angle) > 0.7 else end, twig], 0.015 * high, wood)
            top = [(end[0], end[1] - 0.012 * high), (twig[0], twig[1] - 0.012 * high)]
            canvas.line(top, 0.008 * high, frost)


def house(canvas: Canvas, light: Light, foot: Point, wide: float, wall: RGB, roof: RGB, turn: int) -> None:
    """A gable in front, and a long side turned left (-1) or right (1); `foot` is the corner opposite to that side."""

    def at(*points: Point) -> list[Point]:
        return [(foot[0] + turn * a * wide, foot[1] - b * wide) for a, b in points]

    def block(a: float, b: float, across: float, up: float) -> list[Point]:
        return at((a, b), (a + across, b), (a + across, b + up), (a, b + up))

    front, flank = (0.95, 0.35) if light.side == -turn else (0.65, 0.95)
    plaster, edge = constant(wall), light.colours(snowed(roof * 0.85, 0.98), 1.0, 0)
    canvas.polygon(block(1, 0, 0.95, 0.62), light.colours(plaster, flank, 0))
    canvas.polygon(at((0, 0), (1, 0), (1, 0.62), (0.5, 1.17), (0, 0.62)), light.colours(plaster, front, 0))
    canvas.polygon(block(1.32, 0.95, 0.17, 0.38), light.colours(constant(rgb("9c8f86")), 0.6, 0))
    canvas.polygon(block(1.29, 1.31, 0.23, 0.07), edge)
    slope = at((0.5, 1.23), (1.48, 1.23), (2.06, 0.54), (1.1, 0.54))
    canvas.polygon(slope, light.colours(snowed(roof, 0.96), 0.3 + 0.7 * flank, 0))
    canvas.line(slope[2:], 0.05 * wide, light.colours(TRUNK, 0.5, 0))
    canvas.line(at((-0.1, 0.52), (0.5, 1.19), (1.1, 0.52)), 0.09 * wide, edge)
    pane = rgba(mix(PANE * (light.ambient + light.direct), rgb("ffd27a"), light.dark))
    frame = light.colours(constant(rgb("f3ead8")), 0.8, 0)
    for a, b in ((0.14, 0.24), (0.4, 0.68), (1.17, 0.24), (1.56, 0.24)):
        canvas.polygon(block(a - 0.03, b - 0.03, 0.24, 0.3), frame)
        canvas.polygon(block(a, b, 0.18, 0.24), (pane, pane))
    canvas.polygon(block(0.58, 0, 0.24, 0.46), light.colours(constant(rgb("6e4a38")), 0.6, 0))
    for k in range(6):
        x, y = at((1.4 - turn * light.side * 0.03 * k**1.5, 1.5 + 0.16 * k))[0]
        puff = light.colours(constant(rgb("f4f2f0")), 0.9, 0.3, 0.42 - 0.06 * k)
        canvas.ellipse(x, y, wide * (0.07 + 0.025 * k), wide * (0.06 + 0.02 * k), puff)


def tower(canvas: Canvas, light: Light, foot: Point, wide: float, wall: RGB, roof: RGB) -> None:
    """A church tower with a pointed roof, `wide` across."""
    (x, y), high = foot, 2.7 * wide
    canvas.polygon(_bar(x, y, wide, high), light.colours(constant(wall), 0.95, 0))
    shaded = _bar(x - light.side * 0.3 * wide, y, 0.4 * wide, high)
    canvas.polygon(shaded, light.colours(constant(wall), 0.3, 0))
    canvas.polygon(_bar(x, y - 0.68 * high, 0.22 * wide, 0.5 * wide), light.colours(constant(PANE), 0.5, 0))
    low, tip = y - high, (x, y - high - 1.5 * wide)
    for side in (-1, 1):
        face = [tip, (x + side * 0.62 * wide, low), (x, low + 0.06 * wide)]
        canvas.polygon(face, light.colours(snowed(roof, 0.95), 0.95 if side == light.side else 0.25, 0))
    canvas.line([(x - 0.62 * wide, low), (x + 0.62 * wide, low)], 0.08 * wide, light.colours(TRUNK, 0.5, 0))


def fence(canvas: Canvas, light: Light, hill: Hill, u: tuple[float, float], v: float, high: float) -> None:
    """Posts and two rails between u[0] and u[1], `v` below the crest; snow lies on top."""
    steps = max(1, round((u[1] - u[0]) / (1.1 * high)))
    posts = [hill.place(u[0] + (u[1] - u[0]) * k / steps, v) for k in range(steps + 1)]
    for part in (0.45, 0.85):
        rail = [(x, y - part * high) for x, y in posts]
        canvas.line(rail, 0.16 * high, light.colours(WOOD, 0.5, 0))
        canvas.line([(x, y - 0.09 * high) for x, y in rail], 0.1 * high, light.colours(RAIL, 0.9, 0))
    for x, y in posts:
        canvas.polygon(_bar(x, y, 0.2 * high, 1.05 * high), light.colours(WOOD, 0.6, 0))
        canvas.polygon(_bar(x, y - 1.0 * high, 0.26 * high, 0.14 * high), light.colours(RAIL, 0.9, 0))
