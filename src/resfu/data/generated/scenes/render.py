"""Render layers to an image and its map of segments."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from resfu.data.generated.scenes.classes import CLASSES, STUFF
from resfu.data.generated.scenes.layout import Layer, layout
from resfu.data.generated.scenes.materials import Material, choose_material
from resfu.data.generated.scenes.raster import Stamp
from resfu.data.generated.scenes.textures import cut, texture_bank
from resfu.data.generated.seeding import Stream, generator

SUPERSAMPLING = 2
BLUR = ((0.15, 0.5), (1.0, 2.0))  # range of the standard deviation in pixels, at difficulty 0 and 1
NOISE = ((0.005, 0.02), (0.02, 0.06))  # range of the standard deviation in 0..1, at difficulty 0 and 1


@dataclass(frozen=True)
class Scene:
    """A finished sample.

    Args:
        image: uint8 [H, W, 3].
        ids: uint8 [H, W], the segment at each pixel, 1 to n without gaps, from far to near.
        categories: uint8 [n], the class of segment i + 1.
    """

    image: np.ndarray
    ids: np.ndarray
    categories: np.ndarray


def make_scene(seed: int, split: str, index: int, size: tuple[int, int], difficulty: float = 0.0) -> Scene:
    """Generate a sample; the same arguments give the same scene.

    Args:
        seed: seed of the dataset.
        split: "train", "val" or "test".
        index: index of the sample.
        size: (H, W) in pixels.
        difficulty: 0 to 1; changes the image but not the labels.
    """
    height, width = (SUPERSAMPLING * side for side in size)
    layers = layout(generator(seed, split, index, Stream.GEOMETRY), height, width)
    ids = np.zeros((height, width), dtype=np.uint8)
    for number, layer in enumerate(layers, start=1):
        ids[layer.stamp.window][layer.stamp.mask] = number
    visible, compact = np.unique(_majority(ids), return_inverse=True)
    canvas = _paint(layers, generator(seed, split, index, Stream.MATERIAL), height, width, difficulty)
    # The mean of a pixel's samples is its anti-aliased colour.
    image = canvas.reshape(size[0], SUPERSAMPLING, size[1], SUPERSAMPLING, 3).mean((1, 3))
    image = _photograph(image, generator(seed, split, index, Stream.CAMERA), difficulty)
    categories = np.array([layers[number - 1].category for number in visible], dtype=np.uint8)
    return Scene(image, (compact.reshape(size) + 1).astype(np.uint8), categories)


def _majority(ids: np.ndarray) -> np.ndarray:
    """The commonest id of each 2 x 2 block, [H, W] -> [H/2, W/2]; in a tie the nearer, which keeps thin lines."""
    blocks = np.stack([ids[0::2, 0::2], ids[0::2, 1::2], ids[1::2, 0::2], ids[1::2, 1::2]])
    first, second, third, fourth = np.sort(blocks, axis=0)
    low_pair = np.where(first == second, first, fourth)
    return np.where(third == fourth, fourth, np.where(second == third, second, low_pair))


def _paint(layers: list[Layer], rng: np.random.Generator, height: int, width: int, difficulty: float) -> np.ndarray:
    canvas = np.zeros((height, width, 3), dtype=np.float32)
    light = rng.uniform(0, 2 * np.pi)
    for place, layer in enumerate(layers):
        name = CLASSES[layer.category]
        window, mask = layer.stamp.window, layer.stamp.mask
        behind = _some_colours(canvas[window], mask) if place else None
        material = choose_material(rng, name, behind, difficulty)
        strength, sheen = rng.uniform(0.25, 0.5), rng.uniform(0.1, 0.35)
        if layer.foot is not None:
            _cast_shadow(canvas, layer.stamp, layer.foot, strength)
        surface = _surface(material, (mask.shape[0], mask.shape[1]), light, 0.0 if name in STUFF else sheen)
        np.copyto(canvas[window], surface, where=mask[..., None])
    return canvas


def _some_colours(view: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Up to about 100 colours [n, 3], evenly spread over the mask."""
    places = np.flatnonzero(mask)
    rows, columns = np.divmod(places[:: max(1, len(places) // 100)], mask.shape[1])
    return view[rows, columns]


def _surface(material: Material, size: tuple[int, int], light: float, slope: float) -> np.ndarray:
    """Colours [height, width, 3], brighter towards the light."""
    height, width = size
    tone = cut(texture_bank()[material.texture], *material.origin, height, width)
    tone = (tone[:, ::-1] if material.mirrored else tone).astype(np.float32) / 255
    down = np.linspace(-slope, slope, height, dtype=np.float32)[:, None]
    right = np.linspace(-slope, slope, width, dtype=np.float32)
    shade = 1 + np.float32(np.sin(light)) * down + np.float32(np.cos(light)) * right
    return material.dark * shade[..., None] + (material.light - material.dark) * (tone * shade)[..., None]


def _cast_shadow(canvas: np.ndarray, stamp: Stamp, foot: float, strength: float) -> None:
    """Darken the ground around the foot."""
    rows, columns = stamp.window
    depth = max(2.0, 0.05 * (rows.stop - rows.start))
    reach = max(2.0, 0.45 * (columns.stop - columns.start))
    top, bottom = max(0, int(foot - 3 * depth)), min(canvas.shape[0], int(foot + 3 * depth))
    row = np.arange(top, bottom, dtype=np.float32)[:, None]
    column = np.arange(canvas.shape[1], dtype=np.float32)
    middle = (columns.start + columns.stop) / 2
    dark = np.exp(-(((row - foot) / depth) ** 2)) * np.exp(-(((column - middle) / reach) ** 2))
    canvas[top:bottom] *= 1 - np.float32(strength) * dark.astype(np.float32)[..., None]


def _photograph(image: np.ndarray, rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """Uneven light, colour cast, blur and noise: float32 [H, W, 3] -> uint8 [H, W, 3]."""
    height, width = image.shape[:2]
    coarse = Image.fromarray(rng.standard_normal((4, 4)).astype(np.float32))
    light = 1 + 0.12 * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))[..., None]
    image = image * light * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    blur, noise = (_between(limits, difficulty, rng.random()) for limits in (BLUR, NOISE))
    soft = Image.fromarray(_to_bytes(image)).filter(ImageFilter.GaussianBlur(blur))
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    return _to_bytes(np.asarray(soft, dtype=np.float32) / 255 + noise * grain)


def _between(limits: tuple[tuple[float, float], tuple[float, float]], difficulty: float, share: float) -> float:
    """The value at `share` of a range, which is interpolated from the first range to the second by `difficulty`."""
    low, high = (easy + difficulty * (hard - easy) for easy, hard in zip(*limits, strict=True))
    return low + share * (high - low)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
