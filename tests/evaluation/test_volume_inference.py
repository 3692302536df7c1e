"""Volumes through a network for slices: against scipy by hand, in bounded memory, and back to NIfTI."""

import h5py
import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

import resfu
from resfu.evaluation.volume_inference import nifti_labels, predict_slices, predict_volume, write_nifti


def bright(images):
    """Class 1 where the mean over the channels is above a half."""
    mean = images.mean(1)
    return torch.stack([0.5 - mean, mean - 0.5], dim=1)


@pytest.fixture
def volume():
    return np.random.default_rng(0).random((4, 30, 22), dtype=np.float32)


def test_each_slice_is_resized_predicted_and_resized_back(volume):
    seen = []

    def network(images):
        assert not torch.is_grad_enabled()
        seen.append(images.clone())
        return bright(images)

    done = []
    labels = predict_volume(network, volume, size=16, progress=lambda *numbers: done.append(numbers))
    assert (labels.shape, labels.dtype) == (volume.shape, np.uint8)
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for pixels, images, found in zip(volume, seen, labels, strict=True):
        small = zoom(pixels, (16 / 30, 16 / 22), order=3)
        assert images.shape == (1, 3, 16, 16)
        assert all(np.allclose(channel, small, atol=1e-6) for channel in images[0].numpy())
        assert np.array_equal(found, zoom((small > 0.5).astype(np.uint8), (30 / 16, 22 / 16), order=0))


def test_slices_of_the_networks_size_pass_as_they_are(volume):
    square = volume[:, :22, :22]
    assert np.array_equal(predict_volume(bright, square, size=22), square > 0.5)


def test_one_slice_at_a_time_is_read(volume):
    reads = []

    class Lazy:
        def __len__(self):
            return len(volume)

        def __getitem__(self, index):
            reads.append(index)
            return volume[index]

    slices = predict_slices(bright, Lazy(), size=16)
    assert reads == []
    first = next(slices)
    assert reads == [0]
    assert np.array_equal([first, *slices], predict_volume(bright, volume, size=16))


def test_an_h5_dataset_is_a_volume(volume, tmp_path):
    with h5py.File(tmp_path / "case.h5", "w") as file:
        file["image"] = volume
        assert np.array_equal(predict_volume(bright, file["image"], size=16), predict_volume(bright, volume, size=16))


def test_a_nifti_file_keeps_the_scans_affine(tmp_path):
    affine = np.array([[-0.8, 0, 0.1, 12], [0, 0.8, 0, -30], [0.05, 0, 3, 7], [0, 0, 0, 1]])
    labels = np.random.default_rng(0).integers(0, 9, (3, 5, 4))
    for name in ("labels.nii", "labels.nii.gz", "LABELS.NII.GZ"):
        write_nifti(labels, tmp_path / name, affine)
        read = nibabel.load(tmp_path / name)
        assert np.allclose(read.affine, affine, atol=1e-6)
        assert read.get_data_dtype() == np.uint8
        for z in range(3):
            assert np.array_equal(np.asarray(read.dataobj)[:, :, z], labels[z])


def test_what_cannot_be_predicted_or_written_is_refused(volume, tmp_path):
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        predict_volume(bright, volume, size=0)
    with pytest.raises(ValueError, match=r"slice 0 has shape \(22,\); expected \[H, W\]"):
        predict_volume(bright, volume[0], size=16)
    with pytest.raises(ValueError, match=r"the network gave \[1, 16, 16\]; expected logits \[1, K, 16, 16\]"):
        predict_volume(lambda images: images[:, 0], volume, size=16)
    with pytest.raises(ValueError, match="the network gave NaN for slice 0"):
        predict_volume(lambda images: bright(images) * torch.nan, volume, size=16)
    odd = volume.copy()
    odd[2, 3, 4], odd[2, 5, 6] = np.nan, np.inf
    slices = predict_slices(bright, odd, size=16)
    assert [next(slices).shape for _ in range(2)] == [(30, 22)] * 2
    with pytest.raises(ValueError, match="2 voxels of slice 2 are NaN or infinite"):
        next(slices)
    with pytest.raises(ValueError, match="has no slices"):
        predict_volume(bright, volume[:0])
    labels = np.zeros((2, 3, 4), dtype=np.int64)
    with pytest.raises(ValueError, match=r"labels \[D, H, W\] and an affine \[4, 4\]"):
        write_nifti(labels[0], tmp_path / "a.nii", np.eye(4))
    with pytest.raises(ValueError, match="0 to 255, got 0 to 256"):
        write_nifti(np.full((2, 3, 4), 256) * np.arange(4).clip(0, 1), tmp_path / "a.nii", np.eye(4))
    with pytest.raises(ValueError, match=r"ends in \.nii or \.nii\.gz, got .*a\.png"):
        write_nifti(labels, tmp_path / "a.png", np.eye(4))


def test_logits_may_be_enlarged_in_place_of_labels():
    volume = np.random.default_rng(0).normal(size=(2, 40, 60)).astype(np.float32)

    def network(images):
        return torch.cat([images[:, :1], images[:, :1] ** 2 - 0.5, -images[:, :1]], 1)

    found = predict_volume(network, volume, 16, enlarge="logits")
    logits = []
    predict_volume(lambda images: logits.append(network(images)) or logits[-1], volume, 16)
    for labels, small in zip(found, logits, strict=True):
        large = torch.nn.functional.interpolate(small, size=(40, 60), mode="bilinear")
        np.testing.assert_array_equal(labels, large.argmax(1)[0].numpy())


def test_a_nifti_file_is_filled_part_by_part(tmp_path):
    logits = torch.randn(1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    with nifti_labels(tmp_path / "labels.nii", (9, 10, 11), affine) as voxels:
        resfu.upsample_labels(logits, voxels.shape, out=voxels)
    stored = nibabel.load(tmp_path / "labels.nii")
    large = torch.nn.functional.interpolate(logits, size=(9, 10, 11), mode="trilinear").argmax(1)[0]
    np.testing.assert_array_equal(np.asarray(stored.dataobj).transpose(2, 0, 1), large.numpy())
    np.testing.assert_array_equal(stored.affine, affine)
    with pytest.raises(ValueError, match=r"ends in .nii, got"), nifti_labels("a.nii.gz", (1, 1, 1), affine):
        pass
