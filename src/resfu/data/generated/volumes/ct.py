"""Procedural abdominal CT with the 8 organs of Synapse, and similar structures without a label."""

import numpy as np
from numpy.typing import NDArray

from resfu.data.generated.seeding import Stream, generator
from resfu.data.generated.volumes.canvas import Box, Canvas, Ellipsoid, Mask
from resfu.data.generated.volumes.fields import Array, Size, blur_in_plane, checked_volume_size

SMALLEST = (4, 32, 32)

AIR, FAT, ABDOMINAL_FAT, MUSCLE, GAS = -1000.0, -100.0, -95.0, 55.0, -900.0  # HU
LIVER = Ellipsoid((-0.36, -0.1, 0.25), (0.36, 0.36, 0.75), 0.18)
SPLEEN = Ellipsoid((0.5, 0.06, 0.35), (0.17, 0.24, 0.5), 0.1)
STOMACH = Ellipsoid((0.2, -0.22, 0.3), (0.24, 0.17, 0.5), 0.12)
GALLBLADDER = Ellipsoid((-0.25, -0.05, -0.1), (0.07, 0.1, 0.25), 0.05)
BOWEL_LOOPS = 14
LIVER_VESSELS = 6


def ct_volume(
    seed: int, split: str, index: int, size: Size = (24, 128, 128)
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Generate a scan.

    Args:
        seed: seed of the data set.
        split: "train", "val" or "test".
        index: index of the scan.
        size: (D, H, W), at least 4 x 32 x 32.

    Returns:
        Values in HU, int16 [D, H, W], and labels, uint8 [D, H, W], numbered as in `resfu.data.Synapse`. Both depend on
        the arguments alone. D goes from the feet to the head, H from front to back, W from the patient's right to the
        left: the orientation "PLS" of `resfu.data.medical.geometry`.

    Raises:
        ValueError: for a smaller size.
    """
    size = checked_volume_size(size, SMALLEST)
    geometry, material, camera = (generator(seed, split, index, stream) for stream in Stream)
    canvas = Canvas(geometry, size)
    contrast = float(material.uniform(0, 1))  # amount of contrast agent in the blood
    cavity = _body(canvas, geometry)
    _solid_organs(canvas, geometry, cavity, contrast)
    _kidneys(canvas, geometry, cavity, contrast)
    _pancreas(canvas, cavity)
    _vessels(canvas, contrast)
    _bowel(canvas, geometry, material, cavity)
    _liver_vessels(canvas, geometry)
    blur_in_plane(canvas.values)
    canvas.values += float(camera.uniform(10, 24)) * _noise(camera, size)
    return np.clip(canvas.values, -1024, 3071).astype(np.int16), canvas.label


def _body(canvas: Canvas, rng: np.random.Generator) -> Mask:
    """Paint the body from skin to spine; return the abdominal cavity, which contains all organs."""
    z, y, x = canvas.axes
    width, height, muscle = rng.uniform(0.8, 0.92), rng.uniform(0.58, 0.7), rng.uniform(0.72, 0.86)
    ring = np.square(x / width) + np.square(y / height)
    everywhere: Box = (slice(None), slice(None), slice(None))
    canvas.values[:] = AIR
    skin = ring + 0.02 * canvas.fine
    canvas.paint(everywhere, skin < 1, FAT, 12)
    canvas.paint(everywhere, skin < muscle, MUSCLE, 6)
    inner = np.square(x / (width * muscle * 0.86)) + np.square((y + 0.02) / (height * muscle * 0.82)) < 1
    cavity = np.broadcast_to(inner, canvas.size)
    canvas.paint(everywhere, cavity, ABDOMINAL_FAT, 14)
    # Ribs: short arcs of a thin ring, slanting from slice to slice.
    radius = np.sqrt(ring) / (muscle * 0.95)
    ribs = (np.abs(radius - 1) < 0.035) & (np.cos(14 * np.arctan2(y, x) + 9 * z) > 0.45)
    canvas.paint(everywhere, ribs, 600, 0)
    _spine(canvas)
    return cavity


def _spine(canvas: Canvas) -> None:
    box = canvas.box((0, 0.42, 0), (0.16, 0.16, 2))
    x, y = (place[box] for place in canvas.warped[:2])
    radius = np.hypot(x / 0.13, (y - 0.38) / 0.11)
    canvas.paint(box, radius < 1, 280, 60)
    canvas.paint(box, np.abs(radius - 1) < 0.09, 700, 0)  # the hard shell
    canvas.paint(box, np.square(x / 0.05) + np.square((y - 0.52) / 0.04) < 1, 30, 0)  # the canal


def _solid_organs(canvas: Canvas, rng: np.random.Generator, cavity: Mask, contrast: float) -> None:
    for shape, label, plain, enhanced in ((LIVER, 5, 60, 55), (SPLEEN, 7, 55, 70)):
        box, depth = canvas.depth(shape.jittered(rng))
        canvas.paint(box, (depth < 1) & cavity[box], plain + enhanced * contrast, 8, label)
    box, depth = canvas.depth(STOMACH.jittered(rng))
    canvas.paint(box, (depth < 1) & cavity[box], 35, 14, 8)
    # Gas collects at the front.
    canvas.paint(box, (depth < 0.75) & cavity[box] & (canvas.warped[1][box] < -0.28), GAS, 0)
    box, depth = canvas.depth(GALLBLADDER.jittered(rng))
    canvas.paint(box, depth < 1, 8, 4, 2)


def _kidneys(canvas: Canvas, rng: np.random.Generator, cavity: Mask, contrast: float) -> None:
    for label, side in ((3, 1), (4, -1)):
        box, depth = canvas.depth(Ellipsoid((0.34 * side, 0.28, -0.25), (0.13, 0.16, 0.5), 0.05).jittered(rng))
        hilum = Ellipsoid((0.24 * side, 0.26, -0.25), (0.07, 0.07, 0.3)).jittered(rng)
        outside = sum(
            np.square((place[box] - center) / radius)
            for place, center, radius in zip(canvas.warped, hilum.center, hilum.radii, strict=True)
        )
        kidney = (depth < 1) & (outside > 1) & cavity[box]
        canvas.paint(box, kidney, 110 + 90 * contrast, 8, label)
        canvas.values[box][kidney & (depth < 0.45)] -= 30  # the medulla takes up less


def _pancreas(canvas: Canvas, cavity: Mask) -> None:
    """A thin wavy band across the middle, lobed by the fine field, behind the organs painted before."""
    box = canvas.box((0.08, 0.02, 0.04), (0.4, 0.3, 0.8))
    x, y, z = (place[box] for place in canvas.warped)
    depth = np.square((y - 0.02 - 0.1 * np.sin(4 * x + 0.5)) / 0.075) + np.square((z - 0.5 * x) / 0.28)
    depth += ((x - 0.08) / 0.27) ** 6 + 0.35 * canvas.fine[box]
    canvas.paint(box, (depth < 1) & cavity[box] & (canvas.label[box] == 0), 85, 12, 6)


def _vessels(canvas: Canvas, contrast: float) -> None:
    """The aorta, and beside it the vena cava, which looks similar and has no label."""
    box = canvas.box((0.06, 0.2, 0), (0.055, 0.055, 2))
    x, y = (place[box] for place in canvas.warped[:2])
    canvas.paint(box, np.square((x - 0.06) / 0.055) + np.square((y - 0.2) / 0.055) < 1, 120 + 180 * contrast, 4, 1)
    box = canvas.box((-0.1, 0.2, 0), (0.06, 0.045, 2))
    x, y = (place[box] for place in canvas.warped[:2])
    vein = np.square((x + 0.1) / 0.06) + np.square((y - 0.2) / 0.045) < 1
    canvas.paint(box, vein & (canvas.label[box] == 0), 100 + 60 * contrast, 4)


def _bowel(canvas: Canvas, rng: np.random.Generator, material: np.random.Generator, cavity: Mask) -> None:
    """Loops without a label; their walls have the values of the stomach's wall, and some hold gas."""
    for _ in range(BOWEL_LOOPS):
        center = rng.uniform((-0.45, -0.38, -1.1), (0.45, 0.12, -0.2))
        radii = rng.uniform(0.06, 0.13, 3) * (1, 1, 2.5)
        box, depth = canvas.depth(Ellipsoid(tuple(center.tolist()), tuple(radii.tolist()), 0.15))
        loop = (depth < 1) & cavity[box] & (canvas.label[box] == 0)
        canvas.paint(box, loop, 40, 14)
        content = -800.0 if material.random() < 0.5 else 20.0
        canvas.paint(box, loop & (depth < 0.6) & (canvas.warped[1][box] < center[1]), content, 0)


def _liver_vessels(canvas: Canvas, rng: np.random.Generator) -> None:
    """Thin straight tubes through the liver, labelled as liver."""
    box = canvas.box(LIVER.center, (0.5, 0.5, 1))
    liver = canvas.label[box] == 5
    places = np.stack([place[box][liver] for place in canvas.warped])
    for _ in range(LIVER_VESSELS):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        start = np.array(LIVER.center) + rng.normal(0, 0.12, 3)
        away = places - start[:, None].astype(np.float32)
        along = direction.astype(np.float32) @ away
        vessel = np.square(away).sum(0) - np.square(along) < 0.02**2
        part = canvas.values[box]
        part[liver] += np.where(vessel, 45, 0)


def _noise(rng: np.random.Generator, size: Size) -> Array:
    """Noise correlated along x, as after a reconstruction kernel."""
    noise = rng.standard_normal(size, dtype=np.float32)
    noise[:, :, 1:] = 0.6 * (noise[:, :, 1:] + noise[:, :, :-1])
    return noise
