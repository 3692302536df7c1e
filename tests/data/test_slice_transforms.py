"""TransUNet's augmentation of slices, against numpy and scipy applied by hand."""

import numpy as np
import pytest
import torch
from scipy.ndimage import rotate, zoom
from torchvision import tv_tensors

from resfu.data import CT
from resfu.data.medical.transforms import SplineResize, TurnOrRotate, slice_eval_transform, slice_train_transform
from resfu.training.loader import SeededDataset

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.random((30, 24), dtype=np.float32)).repeat(3, 1, 1)
    label = torch.from_numpy(rng.integers(0, 9, (30, 24)))
    return {"image": tv_tensors.Image(image), "label": tv_tensors.Mask(label), "name": "a"}


def test_evaluation_resizes_the_image_by_cubic_splines_and_leaves_the_label(sample):
    out = slice_eval_transform((16, 20), (0.5,) * 3, (2.0,) * 3)(sample)
    expected = (zoom(sample["image"][0].numpy(), (16 / 30, 20 / 24), order=3) - 0.5) / 2
    assert out["image"].shape == (3, 16, 20)
    assert all(np.allclose(channel, expected, atol=1e-6) for channel in out["image"].numpy())
    assert torch.equal(out["label"], sample["label"].as_subclass(torch.Tensor))


def test_training_resizes_the_label_to_its_nearest_pixels(sample):
    out = SplineResize((16, 20), label=True)(sample)
    expected = zoom(sample["label"].numpy(), (16 / 30, 20 / 24), order=0)
    assert np.array_equal(out["label"].numpy(), expected)
    assert isinstance(out["label"], tv_tensors.Mask)
    assert isinstance(out["image"], tv_tensors.Image)


def test_the_changes_and_how_often_they_come(sample):
    image, label = sample["image"][0].numpy(), sample["label"].numpy()
    turns = {(k, axis): np.flip(np.rot90(label, k), axis) for k in range(4) for axis in range(2)}
    rotations = {angle: rotate(label, angle, order=0, reshape=False) for angle in range(-20, 20)}
    torch.manual_seed(0)
    augment = TurnOrRotate()
    kinds = []
    angles = set()
    for _ in range(300):
        out = augment(sample)
        found = [key for key, turned in turns.items() if np.array_equal(out["label"], turned)]
        if found:
            k, axis = found[0]
            kinds.append("turn")
            assert np.array_equal(out["image"][2], np.flip(np.rot90(image, k), axis))
            continue
        angle = next(angle for angle, turned in rotations.items() if np.array_equal(out["label"], turned))
        kinds.append("rotate" if angle else "none")  # no rotation is an angle of 0 too
        angles.add(angle)
        assert np.array_equal(out["image"][0], rotate(image, angle, order=0, reshape=False))
    assert 0.4 < kinds.count("turn") / 300 < 0.6
    assert 0.17 < kinds.count("rotate") / 300 < 0.33
    assert min(angles) <= -18
    assert 17 <= max(angles) <= 19


def test_training_samples_have_the_networks_size_and_known_labels(tmp_path):
    data = CT("train", tmp_path, size=(4, 32, 40), count=1, transform=slice_train_transform((28, 28), ZERO, ONE))
    seeded = SeededDataset(data, seed=0)
    for index in range(4):
        sample = seeded[0, index]
        assert sample["image"].shape == (3, 28, 28)
        assert sample["label"].shape == (28, 28)
        assert sample["label"].max() <= 8
        assert not isinstance(sample["image"], tv_tensors.TVTensor)
        assert torch.equal(sample["image"], seeded[0, index]["image"])
    assert any(not torch.equal(seeded[0, 1]["image"], seeded[epoch, 1]["image"]) for epoch in range(1, 6))


def test_colours_and_impossible_sizes_are_refused(sample):
    odd = sample["image"].clone()
    odd[:, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="a medical slice holds NaN or infinity"):
        SplineResize((8, 8), label=True)({**sample, "image": tv_tensors.Image(odd)})
    sample["image"][1] += 1
    with pytest.raises(ValueError, match="one channel, repeated three times"):
        slice_eval_transform((16, 16), ZERO, ONE)(sample)
    with pytest.raises(ValueError, match="a size is"):
        slice_train_transform((16, 0), ZERO, ONE)
    with pytest.raises(ValueError, match="mean and std"):
        slice_eval_transform((16, 16), (0.0,), (1.0,))
