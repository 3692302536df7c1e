"""The outlines of the things.

Each function draws one variant in its own frame: y points down, the foot is at (0, 0), and the height is about one
unit. All random numbers come from the given generator.
"""

from collections.abc import Callable

import numpy as np

from resfu.data.generated.scenes.raster import Polygon, Shape, Stroke


def _points(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, dtype=np.float64)


def _ellipse(x: float, y: float, radius_x: float, radius_y: float, corners: int = 48) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def _blob(
    rng: np.random.Generator, x: float, y: float, radius_x: float, radius_y: float, roughness: float, waves: int = 5
) -> np.ndarray:
    """An ellipse whose radius is modulated by `waves` random harmonics."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = np.ones_like(angle)
    for wave in range(2, 2 + waves):
        radius += roughness / wave**0.8 * rng.standard_normal() * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.4, 1.5)
    return np.stack([x + radius_x * radius * np.cos(angle), y + radius_y * radius * np.sin(angle)], axis=1)


def _rock(rng: np.random.Generator) -> Shape:
    return [Polygon(_blob(rng, 0, -0.34, 0.5, 0.34, roughness=0.3, waves=7))]


def _flower(rng: np.random.Generator) -> Shape:
    petals = int(rng.integers(5, 9))
    angle = np.linspace(0, 2 * np.pi, 24 * petals, endpoint=False)
    radius = 0.13 + 0.19 * np.abs(np.cos(petals * angle / 2)) ** 0.6
    head = np.stack([radius * np.cos(angle), radius * np.sin(angle) - 0.75], axis=1)
    bend = 0.05 * rng.standard_normal()
    leaves = [
        Polygon(_points((bend, -0.18), (side * 0.2, -0.4), (side * 0.34, -0.38), (side * 0.18, -0.24)))
        for side in (-1, 1)
    ]
    return [Stroke(_points((0, 0), (bend, -0.35), (0, -0.75)), 0.035), *leaves, Polygon(head)]


def _ring(rng: np.random.Generator) -> Shape:
    radius, inner = 0.46, 0.46 * rng.uniform(0.55, 0.82)
    parts: list[Polygon | Stroke] = [
        Polygon(_ellipse(0, -radius, radius, radius)),
        Polygon(_ellipse(0, -radius, inner, inner), hole=True),
    ]
    start = rng.uniform(0, np.pi)
    spokes = int(rng.integers(0, 5))
    for spoke in range(spokes):
        angle = start + np.pi * spoke / spokes
        x, y = 0.9 * radius * np.cos(angle), 0.9 * radius * np.sin(angle)
        parts.append(Stroke(_points((-x, -radius - y), (x, -radius + y)), 0.03))
    return parts


def _tree(rng: np.random.Generator) -> Shape:
    parts: list[Polygon | Stroke] = []

    def grow(foot: np.ndarray, angle: float, length: float, width: float, forks: int) -> None:
        tip = foot + length * np.array([np.cos(angle), np.sin(angle)])
        parts.append(Stroke(np.stack([foot, tip]), width))
        if forks == 0:
            if rng.random() < 0.4:
                parts.append(Polygon(_blob(rng, tip[0], tip[1], 0.05, 0.05, roughness=0.3, waves=3)))
            return
        for _ in range(int(rng.integers(2, 4))):
            start = foot + (tip - foot) * rng.uniform(0.65, 1.0)
            turn = 0.5 * rng.standard_normal()
            grow(start, angle + turn, length * rng.uniform(0.55, 0.78), max(0.6 * width, 0.008), forks - 1)

    grow(np.zeros(2), -np.pi / 2 + 0.08 * rng.standard_normal(), 0.34, 0.08, 4)
    return parts


def _fence(rng: np.random.Generator) -> Shape:
    posts = int(rng.integers(5, 12))
    half = posts * rng.uniform(0.07, 0.09)
    uprights = [
        Stroke(_points((x, 0), (x, -0.62 + 0.03 * rng.standard_normal())), 0.035)
        for x in np.linspace(-half, half, posts)
    ]
    rails = [Stroke(_points((-half, y), (half, y)), 0.03) for y in (-0.2, -0.47)]
    return [*uprights, *rails]


def _lamp(rng: np.random.Generator) -> Shape:
    reach = rng.uniform(0.18, 0.28)
    foot = Polygon(_points((-0.06, 0), (0.06, 0), (0.035, -0.07), (-0.035, -0.07)))
    pole = Stroke(_points((0, 0), (0, -0.94), (reach, -1.0)), 0.028)
    shade = Polygon(_points((reach - 0.07, -1.02), (reach + 0.13, -1.02), (reach + 0.08, -0.92), (reach - 0.02, -0.92)))
    return [foot, pole, shade]


def _animal(rng: np.random.Generator) -> Shape:
    legs = [Stroke(_points((x, -0.4), (x + 0.03 * rng.standard_normal(), 0)), 0.05) for x in (-0.25, -0.15, 0.15, 0.25)]
    nod = rng.uniform(-0.12, 0.06)
    ears = [Stroke(_points((0.45 + x, -0.72 - nod), (0.42 + 2 * x, -0.9 - nod)), 0.024) for x in (-0.02, 0.05)]
    return [
        Polygon(_blob(rng, 0, -0.44, 0.35, 0.17, roughness=0.12, waves=4)),
        *legs,
        Stroke(_points((0.24, -0.48), (0.42, -0.68 - nod)), 0.11),
        Polygon(_blob(rng, 0.49, -0.69 - nod, 0.13, 0.08, roughness=0.15, waves=3)),
        *ears,
        Stroke(_points((-0.3, -0.5), (-0.46, -0.58), (-0.54, -0.4)), 0.028),
    ]


def _cart(rng: np.random.Generator) -> Shape:
    roof = rng.uniform(0.58, 0.68)
    bonnet, boot = [(0.5, -0.14), (0.5, -0.36), (0.3, -0.4)], [(-0.42, -0.4), (-0.5, -0.36), (-0.5, -0.14)]
    body = _points(*bonnet, (0.18, -roof), (-0.3, -roof), *boot)
    window = _points((-0.28, -0.41), (0.17, -0.41), (0.1, -roof + 0.05), (-0.22, -roof + 0.05))
    wheels = [Polygon(_ellipse(x, -0.13, 0.13, 0.13)) for x in (-0.29, 0.29)]
    hubs = [Polygon(_ellipse(x, -0.13, 0.05, 0.05), hole=True) for x in (-0.29, 0.29)]
    return [Polygon(body), Polygon(window, hole=True), *wheels, *hubs]


def cable(rng: np.random.Generator, height: int, width: int) -> Shape:
    """A line that hangs across the canvas of height x width, in its pixels and not in a frame of its own."""
    left, right = rng.uniform(0.03, 0.55, 2) * height
    sag = rng.uniform(0.02, 0.2) * height
    along = np.linspace(0, 1, 60)
    y = left + (right - left) * along + sag * 4 * along * (1 - along)
    return [Stroke(np.stack([along * width, y], axis=1), rng.uniform(2.0, 6.0))]


# All things except the cable.
STANDING: dict[str, Callable[[np.random.Generator], Shape]] = {
    "rock": _rock,
    "flower": _flower,
    "ring": _ring,
    "tree": _tree,
    "fence": _fence,
    "lamp": _lamp,
    "animal": _animal,
    "cart": _cart,
}
