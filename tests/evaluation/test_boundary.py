"""The band against the erosion loop that defines it, and against cases worked by hand."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from torch import Tensor

from resfu.evaluation.boundary import boundary_band, boundary_counts, boundary_distance
from resfu.evaluation.label_maps import merge_ignored


def blobs(seed: int, shape: tuple[int, int, int], num_classes: int, ignored: bool = True) -> Tensor:
    """Random maps with regions of many sizes; id 255 where ignored."""
    generator = torch.Generator().manual_seed(seed)
    B, H, W = shape
    labels = torch.zeros(B, H, W, dtype=torch.int64)
    for b in range(B):
        for _ in range(25):
            y, x = (int(torch.randint(0, n, (), generator=generator)) for n in (H, W))
            h, w = (int(torch.randint(1, n // 2 + 2, (), generator=generator)) for n in (H, W))
            labels[b, y : y + h, x : x + w] = torch.randint(0, num_classes, (), generator=generator)
        if ignored:
            y, x = (int(torch.randint(0, n, (), generator=generator)) for n in (H, W))
            labels[b, y : y + H // 4, x : x + W // 4] = 255
    return labels


def eroded_band(mask: np.ndarray, distance: int) -> np.ndarray:
    """A mask minus its erosion by `distance` steps of 3 x 3 ones, outside counting as empty."""
    inner = np.pad(mask, 1)
    for _ in range(distance):
        inner = binary_erosion(inner, np.ones((3, 3), dtype=bool))
    return mask & ~inner[1:-1, 1:-1]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(512, 512, 14), (512, 683, 17), (480, 640, 16), (1024, 2048, 46), (100, 100, 3), (8, 8, 1)],
)
def test_distance_is_two_percent_of_the_diagonal(height: int, width: int, expected: int) -> None:
    assert boundary_distance(height, width) == expected


def test_ring_of_a_square_by_hand() -> None:
    labels = torch.zeros(1, 100, 100, dtype=torch.int64)
    labels[:, 40:60, 40:60] = 1
    band = boundary_band(labels, 3)
    assert int((band & (labels == 1)).sum()) == 400 - 14**2 == 204
    frame = 100**2 - 94**2
    ring_outside = 26**2 - 20**2
    assert int((band & (labels == 0)).sum()) == frame + ring_outside


@pytest.mark.parametrize("shape", [(2, 40, 57), (1, 23, 9), (3, 5, 64), (1, 1, 1), (1, 7, 7)])
@pytest.mark.parametrize("distance", [1, 2, 3, 4, 7, 11])
def test_band_equals_the_erosion_loop(shape: tuple[int, int, int], distance: int) -> None:
    labels = blobs(sum(shape) + distance, shape, num_classes=4)
    band = boundary_band(labels, distance).numpy()
    for one_map, one_band in zip(labels.numpy(), band, strict=True):
        expected = np.zeros_like(one_band)
        for label in np.unique(one_map):
            expected |= eroded_band(one_map == label, distance)
        np.testing.assert_array_equal(one_band, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_band_does_not_depend_on_the_dtype(dtype: torch.dtype) -> None:
    labels = blobs(3, (2, 33, 45), num_classes=6)
    if dtype == torch.int16:
        labels = labels * 100  # ids beyond uint8
    torch.testing.assert_close(boundary_band(labels.to(dtype), 3), boundary_band(labels, 3))


def test_counts_equal_the_erosion_loop_by_class_and_image() -> None:
    num_classes, distance = 5, 2
    label, prediction = blobs(0, (4, 37, 50), 4), blobs(1, (4, 37, 50), num_classes, ignored=False)
    merged = merge_ignored(prediction, label, num_classes, 255)
    intersection, union = boundary_counts(*merged, num_classes, distance)
    assert intersection.shape == union.shape == (4, num_classes)
    for b in range(4):
        valid = label[b].numpy() != 255
        for c in range(num_classes):
            labelled = eroded_band(label[b].numpy() == c, distance) & valid
            predicted = eroded_band(prediction[b].numpy() == c, distance) & valid
            assert int(intersection[b, c]) == (labelled & predicted).sum()
            assert int(union[b, c]) == (labelled | predicted).sum()
    assert union[:, 4].sum() > 0, "a class that is only predicted must be among the cases"


def test_distance_must_be_positive() -> None:
    with pytest.raises(ValueError, match="distance must be at least 1 pixel, got 0"):
        boundary_band(torch.zeros(1, 4, 4, dtype=torch.int64), 0)
