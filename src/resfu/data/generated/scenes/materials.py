"""The look of surfaces: a texture and two colours for each class, and their contrast."""

import colorsys
from dataclasses import dataclass

import numpy as np

from resfu.data.generated.scenes.textures import PERIOD

# Classes share textures, and a hue is only weakly tied to a class: colour alone does not identify it.
TEXTURES: dict[str, tuple[str, ...]] = {
    "sky": ("cloud",),
    "mountain": ("ridge",),
    "grass": ("blades",),
    "road": ("grain",),
    "water": ("ripple",),
    "wall": ("brick",),
    "soil": ("pebble",),
    "rock": ("ridge", "pebble"),
    "flower": ("dots", "cloud"),
    "ring": ("check", "grain"),
    "tree": ("bark",),
    "fence": ("wood",),
    "lamp": ("metal",),
    "animal": ("fur",),
    "cart": ("stripe", "weave"),
    "cable": ("grain",),
}
HUES: dict[str, float] = {
    "sky": 0.58,
    "mountain": 0.63,
    "grass": 0.28,
    "road": 0.6,
    "water": 0.52,
    "wall": 0.03,
    "soil": 0.09,
    "rock": 0.1,
    "flower": 0.9,
    "ring": 0.75,
    "tree": 0.22,
    "fence": 0.08,
    "lamp": 0.6,
    "animal": 0.07,
    "cart": 0.0,
    "cable": 0.62,
}
HUE_SPREAD = (0.12, 0.3)  # standard deviation in turns of the hue circle, at difficulty 0 and 1
CONTRAST = 0.3  # RGB distance (0..1) from the background that an object should keep at difficulty 0
CANDIDATES = 8
PULL = (0.3, 0.7)  # share of the colour difference that difficulty 1 removes


@dataclass(frozen=True)
class Material:
    """A surface: its texture's name, the window's origin in it, whether it is mirrored, a light and a dark RGB."""

    texture: str
    origin: tuple[int, int]
    mirrored: bool
    light: np.ndarray
    dark: np.ndarray


def choose_material(rng: np.random.Generator, name: str, behind: np.ndarray | None, difficulty: float) -> Material:
    """Draw the surface of a segment.

    `difficulty` does not change how many random numbers are drawn: the same scene gets gradually harder.

    Args:
        rng: generator of the sample's materials.
        name: class.
        behind: colours that the segment hides, [n, 3], RGB in 0..1; None for the first layer.
        difficulty: 0 to 1.
    """
    textures = TEXTURES[name]
    texture = textures[int(rng.integers(len(textures)))]
    top, left = (int(value) for value in rng.integers(PERIOD, size=2))
    mirrored = bool(rng.random() < 0.5)
    pairs = [_colours(rng, HUES[name], difficulty) for _ in range(CANDIDATES)]
    pull = difficulty * rng.uniform(*PULL)
    if behind is None:
        light, dark = pairs[0]
    else:
        # The contrast holds for nine tenths of the hidden colours, not their mean: there may be several surfaces.
        means = np.stack([(light + dark) / 2 for light, dark in pairs])
        distances = np.quantile(np.linalg.norm(means[:, None] - behind, axis=2), 0.1, axis=1)
        clear = np.flatnonzero(distances >= CONTRAST)
        chosen = int(clear[0]) if clear.size else int(np.argmax(distances))
        shift = pull * (behind.mean(0) - means[chosen])
        light, dark = (colour + shift for colour in pairs[chosen])
    return Material(texture, (top, left), mirrored, light, dark)


def _colours(rng: np.random.Generator, hue: float, difficulty: float) -> tuple[np.ndarray, np.ndarray]:
    spread = HUE_SPREAD[0] + (HUE_SPREAD[1] - HUE_SPREAD[0]) * difficulty
    turned = (hue + spread * rng.standard_normal()) % 1.0
    light = np.array(colorsys.hsv_to_rgb(turned, rng.uniform(0.15, 0.75), rng.uniform(0.35, 0.95)), dtype=np.float32)
    dark = light * rng.uniform(0.45, 0.75) + rng.uniform(-0.05, 0.05, 3)
    return light, np.clip(dark, 0, 1).astype(np.float32)
