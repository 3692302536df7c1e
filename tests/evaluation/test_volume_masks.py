"""What the scores of volumes take as masks."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from resfu.evaluation import surface_distance
from resfu.evaluation.surface_distance import dice, hd95, surface

NAN = float("nan")


def blob(rng, shape, share):
    field = gaussian_filter(rng.standard_normal(shape), rng.uniform(0.4, 1.5))
    return field > np.quantile(field, 1 - share)


def test_impossible_masks_and_spacings_are_refused():
    full, empty = np.ones((2, 2, 2), dtype=bool), np.zeros((2, 2, 2), dtype=bool)
    with pytest.raises(ValueError, match="an empty mask has no surface"):
        hd95(full, empty)
    with pytest.raises(ValueError, match=r"same shape, got \(2, 2, 2\) and \(2, 2\)"):
        hd95(full, full[0])
    for spacing in ((1, 1), (1, 0, 1), (1, NAN, 1)):
        with pytest.raises(ValueError, match="spacing must hold 3 positive numbers"):
            hd95(full, full, spacing)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_integer_masks_are_masks(dtype):
    first, second = (blob(np.random.default_rng(seed), (5, 6, 7), 0.4) for seed in range(2))
    integers = first.astype(dtype), second.astype(dtype)
    assert hd95(*integers) == hd95(first, second)
    assert hd95(integers[0][::2], second[::2]) == hd95(first[::2], second[::2])  # not in one piece
    assert dice(*integers) == dice(first, second)
    assert np.array_equal(surface(integers[0]), surface(first))
    assert surface_distance.bounding_box(integers[0]) == surface_distance.bounding_box(first)
    assert hd95(torch.from_numpy(first), second.tolist()) == hd95(first, second)


def test_what_is_no_mask_is_refused():
    full = np.ones((2, 2, 2), dtype=bool)
    for measure in (hd95, dice):
        with pytest.raises(ValueError, match="second mask must be bool, got float64: threshold it first"):
            measure(full, full * 0.5)
        with pytest.raises(ValueError, match="first mask must be bool, or 0 and 1; got int64 from 3 to 3: give one"):
            measure(full * 3, full)
        with pytest.raises(ValueError, match="from -1 to -1"):
            measure(full, -full.astype(int))
        with pytest.raises(ValueError, match=r"same shape, got \(2, 2, 2\) and \(1, 2, 2\)"):
            measure(full, full[:1])
        with pytest.raises(ValueError, match="first mask must be an array"):
            measure(True, full)
    for measure in (surface, surface_distance.bounding_box):
        with pytest.raises(ValueError, match="the mask must be bool, got float32"):
            measure(full.astype(np.float32))
    for spacing in (1.5, ("a", "b", "c"), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match="spacing must hold 3 positive numbers, one per axis; got"):
            hd95(full, full, spacing)
