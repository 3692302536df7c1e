"""Periodic grey textures for the materials of a scene."""

import functools
from collections.abc import Mapping

import numpy as np
from PIL import Image

# A multiple of every cell and period below, so the textures tile without a seam.
PERIOD = 768
SEED = 7301


@functools.cache
def texture_bank() -> Mapping[str, np.ndarray]:
    """All textures by name.

    Returns:
        uint8 [PERIOD, PERIOD] each, mean near 128, standard deviation near 70. Their strong edges (bricks, stripes,
        checks) ensure that not every edge in the image is a label's edge.
    """
    rng = np.random.default_rng(SEED)
    row, column = np.mgrid[0:PERIOD, 0:PERIOD].astype(np.float32)
    turn = 2 * np.pi / PERIOD
    warp = 5 * _fractal(rng, 96, 3)
    grain = _fractal(rng, 6, 2)
    cloud = _fractal(rng, 192, 6)
    bank = {
        "cloud": cloud,
        "ridge": _fractal(rng, 128, 6, ridged=True),
        "blades": _fractal(rng, 24, 3, gain=0.8, stretch=0.25),
        "ripple": _fractal(rng, 12, 3, gain=0.7, stretch=8),
        "grain": grain,
        "pebble": np.abs(_fractal(rng, 16, 2)),
        "bark": _fractal(rng, 24, 4, stretch=0.25, ridged=True),
        "fur": _fractal(rng, 8, 2, gain=0.8, stretch=3),
        "metal": _fractal(rng, 256, 2, stretch=0.0625) + 0.15 * grain,
        "brick": _bricks(rng, row, column + 0.3 * warp) + 0.25 * grain,
        "stripe": np.sign(np.sin(48 * turn * (column + warp))) + 0.25 * grain,
        "check": np.sign(np.sin(32 * turn * row) * np.sin(32 * turn * column)) + 0.25 * grain,
        "dots": 2.0 * (np.hypot(row % 24 - 12, column % 24 - 12) < 7) + 0.25 * grain,
        "wood": np.sin(24 * turn * (column + 2 * warp) + 3 * cloud) + 0.35 * grain,
        "weave": np.sin(96 * turn * row) + np.sin(96 * turn * column) + 0.4 * grain,
    }
    return {name: _tone(field) for name, field in bank.items()}


def cut(texture: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A window [height, width] of a texture [PERIOD, PERIOD], which repeats periodically; it starts at (top, left)."""
    rows = np.arange(top, top + height) % PERIOD
    columns = np.arange(left, left + width) % PERIOD
    return texture[rows[:, None], columns]


def _fractal(
    rng: np.random.Generator, cell: int, octaves: int, gain: float = 0.55, stretch: float = 1.0, ridged: bool = False
) -> np.ndarray:
    """The standardised sum of `octaves` noises; each has half the cell and `gain` times the amplitude of the last.

    `stretch` is the ratio of a cell's width to its height; `ridged` folds each noise at 0, which makes sharp crests.
    """
    field = np.zeros((PERIOD, PERIOD), np.float32)
    for octave in range(octaves):
        height, width = (max(2, int(cell * factor) >> octave) for factor in (1, stretch))
        noise = _smooth_noise(rng, height, width)
        field += gain**octave * (1 - np.abs(noise) if ridged else noise)
    return _standard(field)


def _smooth_noise(rng: np.random.Generator, cell_height: int, cell_width: int) -> np.ndarray:
    """Normally distributed numbers on a periodic grid of cells, interpolated bicubically."""
    rim = 2  # cells beyond the edge that bicubic interpolation needs
    grid = rng.standard_normal((PERIOD // cell_height, PERIOD // cell_width)).astype(np.float32)
    grid = np.pad(grid, rim, mode="wrap")
    size = (grid.shape[1] * cell_width, grid.shape[0] * cell_height)
    field = np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC))
    top, left = rim * cell_height, rim * cell_width
    return field[top : top + PERIOD, left : left + PERIOD]


def _bricks(rng: np.random.Generator, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    height, width, mortar = 24, 48, 4
    course = (row // height).astype(np.int64)
    shifted = column + course % 2 * (width // 2)
    place = np.floor(shifted / width).astype(np.int64) % (PERIOD // width)
    tone = rng.standard_normal((PERIOD // height, PERIOD // width)).astype(np.float32)[course, place]
    return np.where((row % height < mortar) | (shifted % width < mortar), -2.2, 0.5 * tone)


def _standard(field: np.ndarray) -> np.ndarray:
    return (field - field.mean()) / field.std()


def _tone(field: np.ndarray) -> np.ndarray:
    return (255 * np.clip(0.5 + 0.28 * _standard(field), 0, 1)).astype(np.uint8)
