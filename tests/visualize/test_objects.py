"""Objects and segments over an image."""

import numpy as np
import pytest

from resfu.visualize.objects import draw_instances, draw_panoptic

GREY = np.full((6, 8, 3), 100, dtype=np.uint8)


def test_objects_are_filled_and_outlined_and_the_first_is_on_top():
    masks = np.zeros((2, 6, 8), dtype=bool)
    masks[0, 1:5, 1:5] = True
    masks[1, :, 3:] = True
    drawn = draw_instances(GREY, masks)
    assert drawn.dtype == np.uint8
    assert (drawn[0, 0] == 100).all()  # outside of both
    assert (drawn[1, 1] == 255).all()  # the outline
    # The first colour of the circle: hue 0, saturation .85, half of it over half of the grey.
    assert drawn[2, 3].tolist() == [178, 69, 69]
    assert drawn[2, 6].tolist() != [178, 69, 69]
    assert (GREY == 100).all()


def test_panoptic_stuff_has_the_colour_of_its_class():
    ids = np.zeros((6, 8), dtype=np.int32)
    ids[:, 4:] = 7
    drawn = draw_panoptic(GREY, ids, [{"id": 7, "category_id": 1, "isthing": 0}], [(0, 0, 0), (200, 0, 50)])
    assert drawn[2, 6].tolist() == [150, 50, 75]
    assert drawn[2, 0].tolist() == [50, 50, 50]  # void is dark
    assert (drawn[:, 3] == 255).all()


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="must have the image's size, got"):
        draw_instances(GREY, np.zeros((1, 5, 8), dtype=bool))
    with pytest.raises(ValueError, match="every object needs a caption: got 2 for 1"):
        draw_instances(GREY, np.zeros((1, 6, 8), dtype=bool), ["a", "b"])
