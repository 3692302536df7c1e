import numpy as np
import pytest
import torch

from resfu.visualize import colour_labels, enlarge, error_map, from_normalised, overlay
from resfu.visualize.masks import CORRECT, IGNORED, WRONG

PALETTE = torch.tensor([[10, 20, 30], [200, 100, 0]], dtype=torch.uint8)


def test_labels_take_the_colours_of_the_palette():
    picture = colour_labels(torch.tensor([[0, 1], [255, 0]]), PALETTE)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[10, 20, 30], [200, 100, 0]], [list(IGNORED), [10, 20, 30]]]


def test_another_ignore_index():
    assert colour_labels(torch.tensor([[-1, 1]]), PALETTE, ignore_index=-1).tolist() == [[list(IGNORED), [200, 100, 0]]]


@pytest.mark.parametrize("label", [2, -3])
def test_a_label_out_of_range_is_named(label):
    with pytest.raises(ValueError, match=f"label {label} has no colour"):
        colour_labels(torch.tensor([[0, label]]), PALETTE)


def test_overlay_mixes_linearly():
    image = np.full((1, 2, 3), 100, np.uint8)
    colours = np.array([[[200, 0, 100], [50, 50, 50]]], np.uint8)
    assert overlay(image, colours, 0.25).tolist() == [[[125, 75, 100], [88, 88, 88]]]
    with pytest.raises(ValueError, match="one size"):
        overlay(image, colours[:, :1])


def test_error_map_by_hand():
    prediction, label = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 0], [255, 1]])
    expected = [[list(CORRECT), list(WRONG)], [list(IGNORED), list(CORRECT)]]
    assert error_map(prediction, label).tolist() == expected
    with pytest.raises(ValueError, match="one size"):
        error_map(prediction, label[:1])


def test_normalisation_is_undone():
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.1, 1.0)
    rgb = torch.tensor([[[0, 255, 128]]], dtype=torch.uint8)
    normalised = (rgb.permute(2, 0, 1).float() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
        :, None, None
    ]
    assert from_normalised(normalised, mean, std).tolist() == [[[0, 255, 128]]]


def test_enlarging_repeats_pixels():
    small = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    assert enlarge(small, (2, 4)).tolist() == [[[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]]] * 2
