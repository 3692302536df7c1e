"""The geometry of a scene: its layers from far to near, without colour."""

from dataclasses import dataclass

import numpy as np

from resfu.data.generated.scenes import shapes
from resfu.data.generated.scenes.classes import CLASSES, THINGS
from resfu.data.generated.scenes.raster import Placement, Stamp, rasterise

THING_COUNT = (4, 12)
# Height relative to the average thing at the same distance, and lean (standard deviation in radians).
HEIGHT = {"tree": 1.7, "lamp": 1.6, "rock": 0.8, "flower": 0.85}
LEAN = {"rock": 0.3, "ring": 0.3, "flower": 0.2}


@dataclass(frozen=True)
class Layer:
    """One segment before occlusion.

    Args:
        category: index into `CLASSES`.
        stamp: where it is on the canvas.
        foot: row on which it stands and casts a shadow; None if it does not stand on the ground.
    """

    category: int
    stamp: Stamp
    foot: float | None = None


def layout(rng: np.random.Generator, height: int, width: int) -> list[Layer]:
    """Draw the geometry of a scene.

    Args:
        rng: generator of the sample's geometry.
        height: height of the canvas in pixels.
        width: width of the canvas in pixels.

    Returns:
        The layers, far to near; together they cover the canvas, and nearer ones hide farther ones. Each stuff class
        occurs at most once.
    """
    horizon = rng.uniform(0.28, 0.6) * height
    return [*_background(rng, horizon, height, width), *_things(rng, horizon, height, width)]


def _background(rng: np.random.Generator, horizon: float, height: int, width: int) -> list[Layer]:
    row = np.arange(height, dtype=np.float32)[:, None]
    column = np.arange(width, dtype=np.float32)
    layers: list[Layer] = []

    def add(name: str, mask: np.ndarray) -> None:
        layers.append(Layer(CLASSES.index(name), Stamp(0, 0, mask)))

    everywhere = np.ones((height, width), dtype=bool)
    if rng.random() < 0.2:
        add("wall", everywhere)
    else:
        add("sky", everywhere)
        if rng.random() < 0.75:
            # Triangular waves make peaks; the sum of three makes a range.
            crest = sum(
                (1 - np.abs(2 * ((column / width * peaks + rng.random()) % 1) - 1)) / peaks**0.5
                for peaks in rng.uniform((1, 3, 8), (3, 7, 16))
            )
            add("mountain", row > horizon - rng.uniform(0.08, 0.2) * height * np.asarray(crest))

    edge = horizon + 0.012 * height * _waves(rng, column / width, 5)
    ground = "grass" if rng.random() < 0.6 else "soil"
    add(ground, row > edge)
    nearness = np.clip((row - horizon) / (height - horizon), 0, 1)
    for name, chance in (("road", 0.6), ("water", 0.45), ("soil", 0.25)):
        wanted = rng.random() < chance
        far, near = rng.uniform(0, width, 2)
        half = width * (rng.uniform(0.01, 0.04) + (rng.uniform(0.1, 0.4) - 0.01) * nearness)
        middle = far + (near - far) * nearness + 0.03 * width * nearness * _waves(rng, row / height, 4)
        if wanted and name != ground:
            add(name, (np.abs(column - middle) < half) & (row > edge))
    return layers


def _things(rng: np.random.Generator, horizon: float, height: int, width: int) -> list[Layer]:
    layers: list[Layer] = []
    count = int(rng.integers(THING_COUNT[0], THING_COUNT[1] + 1))
    for foot in np.sort(rng.uniform(horizon, 1.05 * height, count)):
        name = THINGS[int(rng.integers(len(THINGS)))]
        if name == "cable":
            shape, placement, standing = shapes.cable(rng, height, width), Placement(), None
        else:
            shape, standing = shapes.STANDING[name](rng), float(foot)
            nearness = (foot - horizon) / (height - horizon)
            placement = Placement(
                x=rng.uniform(0, width),
                y=standing,
                scale=height * (0.12 + 0.4 * nearness) * rng.uniform(0.65, 1.3) * HEIGHT.get(name, 1.0),
                angle=LEAN.get(name, 0.05) * rng.standard_normal(),
                mirrored=bool(rng.random() < 0.5),
            )
        stamp = rasterise(shape, placement, height, width)
        if stamp is not None:
            layers.append(Layer(CLASSES.index(name), stamp, standing))
    return layers


def _waves(rng: np.random.Generator, along: np.ndarray, count: int) -> np.ndarray:
    """A smooth random curve over 0..1: the sum of `count` harmonics of falling amplitude; its deviation is about 1."""
    wave = np.arange(1, count + 1)
    weight = rng.standard_normal(count) / wave
    phase = rng.uniform(0, 2 * np.pi, count)
    curve = sum(w * np.cos(2 * np.pi * n * along + p) for w, n, p in zip(weight, wave, phase, strict=True))
    return np.asarray(curve, dtype=np.float32)
