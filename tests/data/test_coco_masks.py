"""Masks as COCO writes them, beside what pycocotools reads."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resfu.data.coco.segmentation import decode_mask, encode_rle, outlines

# pycocotools' decode is not up to numpy 2's rules.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def random_masks(count=30):
    """Blobs of rectangles: with holes, several parts, pixels that touch at a corner, full and empty ones."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        mask = rng.random((13, 17)) < rng.choice([0, 0.02, 0.1, 1])
        for _ in range(3):
            y, x = rng.integers(0, 10, 2)
            mask[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] ^= True
        yield mask.astype(np.uint8)


def test_masks_are_read_as_pycocotools_reads_them():
    traced = 0
    for mask in random_masks():
        compressed, plain, polygons = encode_rle(mask), encode_rle(mask, compress=False), outlines(mask)
        assert coco_mask.decode(coco_mask.frPyObjects(plain, 13, 17)).tolist() == mask.tolist()
        assert coco_mask.decode(compressed).tolist() == mask.tolist()
        for segmentation in (compressed, plain, *([polygons] if polygons else [])):
            assert decode_mask(json.loads(json.dumps(segmentation)), 13, 17).tolist() == mask.tolist()
        traced += bool(polygons)
    assert 5 < traced < 30


def test_a_polygon_by_hand():
    square = [[2, 1, 6, 1, 6, 4, 2, 4]]
    mask = decode_mask(square, 6, 8)
    assert mask.sum() == 12
    assert mask[1:4, 2:6].all()
    assert {tuple(point) for point in np.reshape(outlines(mask), (-1, 2)).astype(int)} >= {
        (2, 1),
        (6, 1),
        (6, 4),
        (2, 4),
    }
    ring = np.ones((5, 5))
    ring[2, 2] = 0
    assert outlines(ring) is None


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [4, 6], "counts": [24]}, r"size \[4, 6\], but its image \[4, 5\]"),
        ({"size": [4, 5], "counts": [3, 5]}, "cover 8 of 4 x 5 pixels"),
        ({"size": [4, 5], "counts": [30, -10]}, "cover 20 of 4 x 5 pixels"),
        ({"size": [4, 5], "counts": "33"}, "cover 6 of 4 x 5 pixels"),
        ({"size": [4, 5], "counts": "3T"}, "end in the middle of a number"),
        ({"size": [4, 5], "counts": "3 "}, "hold the invalid character ' '"),
        ([[1, 1, 3, 3]], r"polygons of \[4\] numbers"),  # which pycocotools takes for a box
        ([], r"polygons of \[\] numbers"),
    ],
)
def test_masks_that_make_no_sense_are_refused(segmentation, message):
    with pytest.raises(ValueError, match=message):
        decode_mask(segmentation, 4, 5)
