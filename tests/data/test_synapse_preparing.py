"""Raw scans of Synapse brought into the prepared form."""

import json

import nibabel
import numpy as np
import pytest
import torch

from resfu.data import Synapse
from resfu.data.generated.volumes import ct_volume
from resfu.data.medical.nifti import NiftiVolume, scale_window
from resfu.data.medical.prepare import SYNAPSE_SPLITS, prepare_synapse
from resfu.data.medical.writers import Case, write_synapse
from tests.support.medical_fixtures import write_medical_fixture

SIZE = (5, 48, 40)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A prepared copy that no test may change."""
    return write_medical_fixture("synapse", tmp_path_factory.mktemp("synapse") / "data", size=SIZE)


@pytest.fixture
def raw(tmp_path):
    return write_medical_fixture("synapse-nifti", tmp_path / "raw", size=SIZE)


def splits_of(raw):
    return json.loads((raw / "splits.json").read_text())


def damage(path, how="truncated"):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"not a volume")


def test_preparing_the_raw_scans_gives_the_prepared_copy(raw, whole, tmp_path):
    done = []
    out = prepare_synapse(raw, tmp_path / "out", splits=splits_of(raw), progress=lambda *numbers: done.append(numbers))
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for split in ("train", "test"):
        for found, expected in zip(Synapse(split, out), Synapse(split, whole), strict=True):
            assert found["name"] == expected["name"]
            assert torch.equal(found["image"], expected["image"])
            assert torch.equal(found["label"], expected["label"])


def test_the_default_cases_are_those_of_transunet():
    assert (len(SYNAPSE_SPLITS["train"]), len(SYNAPSE_SPLITS["test"])) == (18, 12)
    assert sorted(SYNAPSE_SPLITS["test"]) == sorted((8, 22, 38, 36, 32, 2, 29, 3, 1, 4, 25, 35))
    assert not set(SYNAPSE_SPLITS["train"]) & set(SYNAPSE_SPLITS["test"])


def test_orientation_and_window(tmp_path):
    folder = tmp_path / "raw"
    image = np.arange(24, dtype=np.int16).reshape(2, 3, 4) * 50 - 300  # (x, y, z)
    for kind, array in (("img", image), ("label", np.zeros((2, 3, 4), np.uint8))):
        (folder / kind).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / kind / f"{kind}0007.nii.gz")
    for name, flip in (("plain", False), ("flipped", True)):
        prepare_synapse(folder, tmp_path / name, splits={"test": [7]}, flip=flip)
        volume = Synapse("test", tmp_path / name).volumes[0]
        for z in range(4):
            for x in range(2):
                for y in range(3):
                    expected = min(max((image[x, y, z] + 125) / 400, 0), 1)
                    assert volume[z][x, 2 - y if flip else y] == pytest.approx(expected)


def test_ids_outside_the_map_name_the_raw_file(raw, tmp_path):
    with pytest.raises(ValueError, match=r"label0001\.nii\.gz holds the labels \[9, 10, 11, 12, 13\]; known are 0, 1"):
        prepare_synapse(raw, tmp_path / "out", labels="transunet", splits=splits_of(raw))
    path = raw / "RawData" / "Training" / "label" / "label0002.nii.gz"
    scan = nibabel.load(path)
    wrong = np.asarray(scan.dataobj).copy()
    wrong[0, 0, 0] = 14
    nibabel.save(nibabel.Nifti1Image(wrong, scan.affine), path)
    with pytest.raises(ValueError, match=r"label0002\.nii\.gz holds the labels \[14\]"):
        prepare_synapse(raw, tmp_path / "other", splits=splits_of(raw))


def test_a_label_that_lies_otherwise_than_its_image_is_refused(raw, tmp_path):
    path = raw / "RawData" / "Training" / "label" / "label0001.nii.gz"
    scan = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(scan.dataobj), np.diag([-0.8, -0.8, 3, 1])), path)
    with pytest.raises(
        ValueError, match=r"img0001.* axes LAS, but its label .*label0001.* LPS: their voxels do not match"
    ):
        prepare_synapse(raw, tmp_path / "out", splits=splits_of(raw))


def test_a_damaged_scan_is_named_or_left_out(raw, tmp_path):
    damage(raw / "RawData" / "Training" / "img" / "img0001.nii.gz")
    with pytest.raises(ValueError, match=r"cannot read the volume .*img0001\.nii\.gz.*on_error='skip'"):
        prepare_synapse(raw, tmp_path / "out", splits=splits_of(raw))
    with pytest.warns(UserWarning, match=r"img0001\.nii\.gz.*left out"):
        out = prepare_synapse(raw, tmp_path / "other", splits=splits_of(raw), on_error="skip")
    assert len(Synapse("train", out)) == 5


def test_what_cannot_be_prepared_is_refused(raw, tmp_path, whole):
    with pytest.raises(FileNotFoundError, match=r"52 of 60 listed files are missing; .*img0005\.nii\.gz.*in splits"):
        prepare_synapse(raw, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no folder img in .*BTCV"):
        prepare_synapse(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match="holds something already"):
        prepare_synapse(raw, whole, splits=splits_of(raw))
    for splits, message in (
        ({"valid": [1]}, "unknown split 'valid'"),
        ({"train": [1], "test": [1]}, "once"),
        ({}, "once"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare_synapse(raw, tmp_path / "out", splits=splits)
    with pytest.raises(ValueError, match="low < high"):
        scale_window(np.zeros(2), (1, 1))


def test_an_interrupted_preparation_has_no_lists(tmp_path):
    def cases():
        yield Case("train", 1, np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.uint8))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synapse(tmp_path, cases())
    with pytest.raises(FileNotFoundError, match="no list"):
        Synapse("train", tmp_path)


def test_a_scan_is_read_slice_by_slice(raw):
    path = raw / "RawData" / "Training" / "img" / "img0001.nii.gz"
    volume = NiftiVolume(path, window=(-125, 275))
    values, _ = ct_volume(0, "train", 0, SIZE)
    assert volume.shape == SIZE
    assert len(volume) == 5
    for index in (0, 1, 4, 2):
        assert np.array_equal(volume[index], scale_window(values[index]))
    assert np.array_equal(volume.image(), scale_window(values))
    assert volume.axes == "LAS"
    with pytest.raises(ValueError, match=r"cannot read the volume .*splits\.json"):
        NiftiVolume(raw / "splits.json")
