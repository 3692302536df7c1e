"""Pixels that a probe draws: other ones for each seed, and some for every seed."""

import pytest
import torch

import resfu
from resfu.compare.probe.photos import Seen
from resfu.compare.probe.samples import Samples

SEEDS = (3, 5, 8)


def drawn(labelled, pixels):
    """The labels that each seed gets of an image whose labelled pixels are numbered."""
    pf = resfu.PixelFeatures("efficientnet-lite0", "nearest", pretrained=False)
    label = torch.full((32 * 32,), 255)
    label[7 : 7 + labelled] = torch.arange(labelled)
    image = torch.rand(1, 3, 32, 32)
    seen = Seen(image, label.view(1, 32, 32), torch.randn(1, 112, 2, 2))
    samples = Samples(pf, [seen], pixels, SEEDS)
    batches = [samples.batch(seed, [0]) for seed in SEEDS]
    assert all(features.shape == (1, 112, 1, found.shape[-1]) for features, found in batches)
    return [found.flatten().tolist() for _, found in batches]


@pytest.mark.parametrize(("labelled", "pixels", "each"), [(100, 8, 8), (24, 8, 8), (10, 8, 3), (3, 8, 1)])
def test_every_seed_has_as_many_of_its_own(labelled, pixels, each):
    found = drawn(labelled, pixels)
    assert [len(part) for part in found] == [each] * 3
    assert len({pixel for part in found for pixel in part}) == 3 * each


def test_fewer_pixels_than_seeds_are_shared():
    assert [sorted(part) for part in drawn(2, 8)] == [[0, 1]] * 3
