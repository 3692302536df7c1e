"""Batches of one orientation, shared by processes."""

import numpy as np
import pytest

from resfu.data.coco.sampling import AspectRatioSampler

# pycocotools' decode is not up to numpy 2's rules.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_batches_hold_one_orientation_and_every_image_as_often():
    sizes = [(4, 3) if index % 3 == 0 else (3, 4) for index in range(20)]  # 7 upright, 13 lying
    sampler = AspectRatioSampler(sizes, batch_size=4, seed=1)
    assert [sampler.batches, len(sampler)] == [5, 20]
    stream = []
    for position in range(0, 35, 5):
        sampler.position = position
        stream += list(sampler)
    assert len(set(stream)) == len(stream) == 140
    for start in range(0, 140, 4):
        assert len({index % 3 == 0 for _, index in stream[start : start + 4]}) == 1
    seen = np.bincount([index for _, index in stream], minlength=20)
    assert seen.min() >= 6
    assert seen.max() <= 8
    order = [[index for epoch, index in stream if epoch == number and index % 3] for number in range(2)]
    assert sorted(order[0]) == sorted(order[1]) != order[0] != order[1]
    sampler.position = 3
    assert list(sampler)[:8] == stream[12:20]


def test_two_processes_share_the_batches_of_one():
    sizes = [(4, 3) if index % 2 else (3, 4) for index in range(16)]
    whole = list(AspectRatioSampler(sizes, batch_size=4, seed=0))
    parts = [list(AspectRatioSampler(sizes, 2, seed=0, rank=rank, world=2)) for rank in range(2)]
    joined = [key for start in range(0, 8, 2) for part in parts for key in part[start : start + 2]]
    assert joined == whole
    assert list(AspectRatioSampler(sizes, batch_size=4, seed=1)) != whole
    with pytest.raises(ValueError, match=r"16 images, fewer than batch_size x processes \(9 x 2\)"):
        AspectRatioSampler(sizes, 9, seed=0, world=2)
