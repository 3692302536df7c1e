"""Procedural short-axis cardiac MRI with the 3 structures of ACDC, at end diastole and end systole."""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resfu.data.generated.seeding import Stream, generator
from resfu.data.generated.volumes.fields import (
    Array,
    Size,
    blur_in_plane,
    checked_volume_size,
    smooth_field,
    unit_axes,
)

SMALLEST = (2, 32, 32)
RIGHT_VENTRICLE, MYOCARDIUM, LEFT_VENTRICLE = 1, 2, 3

Phase = Literal["ED", "ES"]


def cardiac_volume(
    seed: int, split: str, index: int, phase: Phase = "ED", size: Size = (10, 128, 128)
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Generate a scan.

    Args:
        seed: seed of the data set.
        split: "train", "val" or "test".
        index: index of the heart.
        phase: "ED" (wide) or "ES" (contracted) of the same heart.
        size: (D, H, W), at least 2 x 32 x 32.

    Returns:
        Values 0 to 400, int16 [D, H, W], and labels, uint8 [D, H, W], numbered as in `resfu.data.ACDC`. Both depend on
        the arguments alone. D goes from the feet to the head, H from front to back, W from the patient's right to the
        left: the orientation "PLS" of `resfu.data.medical.geometry`.

    Raises:
        ValueError: for a smaller size, or an unknown phase.
    """
    size = checked_volume_size(size, SMALLEST)
    if phase not in ("ED", "ES"):
        raise ValueError(f"phase must be 'ED' or 'ES', got {phase!r}.")
    geometry, material, camera = (generator(seed, split, index, stream) for stream in Stream)
    z, y, x = unit_axes(size)
    coarse = smooth_field(geometry, size, (2, 7, 7))
    fine = smooth_field(material, size, (3, 24, 24))
    center, angle = geometry.normal(0, 0.08, 2), geometry.uniform(-0.6, 0.6)
    radius, wall = geometry.uniform(0.17, 0.23), geometry.uniform(0.06, 0.09)
    if phase == "ES":  # the chamber shrinks, the wall thickens
        radius, wall = 0.72 * radius, 1.45 * wall
    u, v = _turned(x - float(center[0]), y - float(center[1]), float(angle))

    # The ventricles taper towards the apex.
    taper = np.sqrt(np.clip(1 - np.square(0.75 * (z + 0.1)), 0.05, 1))
    inner = radius * taper
    distance = np.hypot(u, 1.06 * v) * (1 + 0.06 * coarse)
    left = distance < inner
    myocardium = (distance < inner + wall) & ~left
    # The right ventricle is a crescent: an ellipse without the part that the left one covers.
    crescent = np.square((u + inner + wall + 0.1) / (0.24 * taper)) + np.square(v / (0.33 * taper)) + 0.1 * coarse
    right = (crescent < 1) & (distance > inner + wall)

    values = 70 + 30 * coarse + 12 * fine
    lungs = (np.hypot(u - 0.5, v) < 0.3) | (np.hypot(u + 0.75, v - 0.4) < 0.28)
    values = np.where(lungs, 18 + 5 * fine, values)
    chest = np.square(x / 0.95) + np.square(y / 0.85) < 1
    values = np.where(chest, values, 3)
    label = np.zeros(size, dtype=np.uint8)
    for mask, number, value in (
        (right, RIGHT_VENTRICLE, 185),
        (myocardium, MYOCARDIUM, 75),
        (left, LEFT_VENTRICLE, 200),
    ):
        values = np.where(mask, value + 10 * fine + 8 * coarse, values)
        label[mask] = number
    # A papillary muscle looks like the wall but is labelled as the chamber.
    values = np.where((np.hypot(u - 0.06, v - 0.07) < 0.025) & left, 80, values).astype(np.float32)
    blur_in_plane(values)
    values += np.abs(camera.standard_normal(size, dtype=np.float32)) * float(camera.uniform(5, 11))
    return np.clip(values, 0, 400).astype(np.int16), label


def _turned(x: Array, y: Array, angle: float) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return x * cosine + y * sine, y * cosine - x * sine
